//! Examples of a page → sessions: which share an interpreter and a directory, and in which order they run.

use crate::config::SessionScope;
use crate::example::Example;

/// Groups a page's examples; each group holds positions in page order, and the groups are in the order
/// of their first example. Every example is in exactly one group.
pub fn group(examples: &[Example], scope: SessionScope) -> Vec<Vec<usize>> {
    let mut sessions: Vec<(Key, Vec<usize>)> = Vec::new();
    let mut generation = 0;
    for (position, example) in examples.iter().enumerate() {
        if example.attributes.fresh {
            generation += 1;
        }
        let key = match (&example.attributes.session, scope) {
            (Some(name), _) => Key::Named(
                name,
                if example.attributes.fresh {
                    generation
                } else {
                    0
                },
            ),
            (None, SessionScope::Page) => Key::Page(generation),
            (None, SessionScope::Heading) => Key::Topic(example.topic, generation),
        };
        // `fresh` restarts a named session for the examples that follow under the same name.
        let same = |known: &Key| match (known, &key) {
            (Key::Named(known, _), Key::Named(name, _)) => known == name,
            (known, key) => known == key,
        };
        let place = if example.attributes.fresh {
            None
        } else {
            sessions.iter().rposition(|(known, _)| same(known))
        };
        match place {
            Some(at) => sessions[at].1.push(position),
            None => sessions.push((key, vec![position])),
        }
    }
    sessions
        .into_iter()
        .map(|(_, positions)| positions)
        .collect()
}

#[derive(PartialEq)]
enum Key<'a> {
    Named(&'a str, usize),
    Page(usize),
    Topic(usize, usize),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    #[track_caller]
    fn check(scope: SessionScope, page: &str, expected: &[&[usize]]) {
        let (found, problems) = example::read(page, "page");
        assert_eq!(problems, []);
        assert_eq!(group(&found.examples, scope), expected);
    }

    const THREE: &str = "```py\n1\n```\n## A\n```py\n2\n```\n### B\n```py\n3\n```\n";

    #[test]
    fn one_per_page() {
        check(SessionScope::Page, THREE, &[&[0, 1, 2]]);
        check(SessionScope::Page, "", &[]);
    }

    #[test]
    fn one_per_heading_of_level_two() {
        check(SessionScope::Heading, THREE, &[&[0], &[1, 2]]);
    }

    #[test]
    fn fresh_starts_another() {
        let page = "```py\n1\n```\n```py fresh\n2\n```\n```py\n3\n```\n";
        check(SessionScope::Page, page, &[&[0], &[1, 2]]);
    }

    #[test]
    fn names_gather_across_headings() {
        let page = "```py session=a\n1\n```\n```py\n2\n```\n## B\n```py session=a\n3\n```\n```py session=a fresh\n4\n```\n```py session=a\n5\n```\n";
        check(SessionScope::Heading, page, &[&[0, 2], &[1], &[3, 4]]);
    }
}
