//! Sessions over rayon's threads: longest first, results in page order, and a way to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Result, bail};

/// An error that means "a person pressed Ctrl-C".
#[derive(Debug)]
pub struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// From now on Ctrl-C and termination end a run in order; a second time they end it at once.
pub fn watch_signals() -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    if SIGNAL.get().is_some() {
        return Ok(());
    }
    let flag = std::sync::Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, flag.clone())?;
        signal_hook::flag::register(signal, flag.clone())?;
    }
    SIGNAL.set(flag).ok();
    Ok(())
}

static SIGNAL: std::sync::OnceLock<std::sync::Arc<AtomicBool>> = std::sync::OnceLock::new();

/// Whether a signal asked for the end.
pub fn interrupted() -> bool {
    SIGNAL
        .get()
        .is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// Runs `work` for each job on `threads` threads, the longest first, and hands each result to `on_result`
/// as it comes. With each job `work` is told of one that will be begun at about its end. No job is begun
/// after one whose result `is_enough`. `stop` ends what is running when a signal asks for it, or when results
/// can't be handed over any more.
pub fn run<T: Send>(
    durations: &[Duration],
    threads: usize,
    work: impl Fn(usize, Option<usize>) -> Result<T> + Sync,
    is_enough: impl Fn(&T) -> bool + Sync,
    mut on_result: impl FnMut(usize, T) -> std::io::Result<()>,
    stop: impl Fn(),
) -> Result<()> {
    let mut order: Vec<usize> = (0..durations.len()).collect();
    order.sort_by_key(|&job| std::cmp::Reverse(durations[job]));
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads.min(durations.len()).max(1))
        .build()?;
    let stopped = AtomicBool::new(false);
    let mut failure = None;
    pool.in_place_scope_fifo(|scope| {
        let (sender, receiver) = mpsc::channel();
        for (place, &job) in order.iter().enumerate() {
            let next = order.get(place + threads).copied();
            let (sender, work, stopped) = (sender.clone(), &work, &stopped);
            let is_enough = &is_enough;
            scope.spawn_fifo(move |_| {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let result = work(job, next);
                if result.as_ref().is_ok_and(is_enough) {
                    stopped.store(true, Ordering::Relaxed);
                }
                // The receiver is gone only when nobody wants the result any more.
                let _ = sender.send((job, result));
            });
        }
        drop(sender);
        let mut over = false;
        loop {
            match receiver.recv_timeout(Duration::from_millis(50)) {
                // What was cut off has no result worth telling.
                Ok(_) if over => {}
                Ok((job, result)) => {
                    failure = result.and_then(|result| Ok(on_result(job, result)?)).err();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if !over && (interrupted() || failure.is_some()) {
                over = true;
                stopped.store(true, Ordering::Relaxed);
                stop();
            }
        }
    });
    if interrupted() {
        bail!(Interrupted);
    }
    failure.map_or(Ok(()), Err)
}
