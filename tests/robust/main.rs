//! Pages and recordings by chance: what holds of any text, here on some hundreds, in `fuzz/` on millions.

mod laws;

use proptest::prelude::*;

/// Pieces that Markdown gives a meaning to, joined at random.
fn page() -> impl Strategy<Value = String> {
    let fragment = prop_oneof![
        8 => prop::sample::select(vec![
            "```", "````", "~~~", "```python\n", "```\n", "```output\n", "~~~ pycon\n", "``` {.python}\n",
            "```python id=a\n", "```python file=a.py\n", "```console\n", "<!-- verify: hidden -->\n",
            "<!-- skip: next -->\n", "<!--", "-->", "print(1)\n", ">>> 1 + 1\n", "... pass\n", "2\n",
            "#> shown\n", "x  # 3\n", "$ python a.py\n", "? 1\n", "    indented\n", "\t", "- ", "1. ", "> ",
            ">", " ", "   ", "\n", "\n\n", "\r\n", "\r", "# Heading\n", "## 1.2 Two\n", "---\n", "é", "日本",
            "\u{feff}", "\0", "|a|b|\n|-|-|\n", "[^1]: ", "* * *\n",
        ])
        .prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(fragment, 0..24).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn offsets_slice_the_page(page in page()) {
        laws::extracting(&page);
    }

    #[test]
    fn rewriting_leaves_all_other_bytes_alone(page in page(), output in page()) {
        laws::rewriting(&page, &output);
    }

    #[test]
    fn a_recording_reads_as_it_was_printed(id in ".{0,6}", key in "[a-z-]{0,8}", text in page()) {
        laws::recordings(&text);
        laws::recordings(&format!("format = 1\n[[example]]\nid = {id:?}\nstdout = '''\n{text}'''\n"));
        laws::recordings(&format!("format = 1\n[[example]]\nid = 'a'\n{key} = {text:?}\n[example.python.{id:?}]\n"));
    }
}
