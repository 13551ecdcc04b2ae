//! Blocks of code in Markdown, with fences that no line of the text can close.

/// The text as a block, `info` behind the opening fence. It ends with a line end.
pub fn block(info: &str, text: &str) -> String {
    let longest = text.lines().map(|line| line.trim_start().chars().take_while(|c| *c == '`').count()).max();
    let fence = "`".repeat(longest.unwrap_or(0).max(2) + 1);
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{fence}{info}\n{text}{end}{fence}\n")
}

/// What the first block with this `info` holds.
pub fn find(text: &str, info: &str) -> Option<String> {
    let mut lines = text.split_inclusive('\n');
    while let Some(line) = lines.next() {
        let fence = line.len() - line.trim_start_matches('`').len();
        if fence < 3 {
            continue;
        }
        let is_wanted = line[fence..].trim() == info;
        let mut inside = String::new();
        let mut is_closed = false;
        for line in lines.by_ref() {
            let closing = line.trim_end();
            if closing.len() >= fence && closing.chars().all(|c| c == '`') {
                is_closed = true;
                break;
            }
            inside += line;
        }
        if is_wanted {
            return is_closed.then_some(inside);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_fenced_is_found_again() {
        for text in ["base resnet18\n", "", "# ```\n````json\n", "```\n```arch\nx\n```\n", "\r\n\n"] {
            let page = format!("# a\n\n{}\n{}tail\n", block("json", "{}\n"), block("arch", text));
            assert_eq!(find(&page, "arch").as_deref(), Some(text), "{page}");
            assert_eq!(find(&page, "json").as_deref(), Some("{}\n"), "{page}");
        }
        // a last line end is made where there is none
        assert_eq!(find(&block("arch", "base a"), "arch").as_deref(), Some("base a\n"));
        assert_eq!(find("```arch\nbase a\n", "arch"), None, "a block that nothing closes");
        assert_eq!(find("text ```arch\n```\n", "arch"), None);
    }
}
