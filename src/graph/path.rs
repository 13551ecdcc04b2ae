//! Paths as text: `layer3.5.conv2` as a key, `layer3[5].conv2` in messages.

/// The path of what holds `path`; empty for an outermost one.
pub fn parent(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(parent, _)| parent)
}

/// The scope that holds `path`; None for the network itself, which the empty path is.
pub fn holder(path: &str) -> Option<&str> {
    (!path.is_empty()).then(|| parent(path))
}

/// The last label.
pub fn last(path: &str) -> &str {
    path.rsplit_once('.').map_or(path, |(_, last)| last)
}

pub fn join(parent: &str, label: &str) -> String {
    if parent.is_empty() { label.to_string() } else { format!("{parent}.{label}") }
}

/// Whether `path` lies inside the scope `scope` (not the scope itself). Everything lies inside the empty path.
pub fn inside(path: &str, scope: &str) -> bool {
    scope.is_empty() || path.strip_prefix(scope).is_some_and(|rest| rest.starts_with('.'))
}

/// A path from `scope` on, empty for the scope itself; None for what lies elsewhere.
pub fn rest<'a>(path: &'a str, scope: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(scope)?;
    if scope.is_empty() || rest.is_empty() { Some(rest) } else { rest.strip_prefix('.') }
}

/// The label directly inside `scope` on the way to `path`, which lies inside it.
pub fn first_inside<'a>(path: &'a str, scope: &str) -> &'a str {
    let rest = path.get(scope.len()..).unwrap_or(path).trim_start_matches('.');
    rest.split('.').next().unwrap_or(rest)
}

/// Whether `path` is `scope` or lies inside it.
pub fn within(path: &str, scope: &str) -> bool {
    path == scope || inside(path, scope)
}

/// As messages print it, and as it can be written in an edit: numbers in brackets, what is no plain name in quotes.
pub fn display(path: &str) -> String {
    if path.is_empty() {
        return "the network".into();
    }
    let mut text = String::new();
    for label in path.split('.') {
        if is_number(label) && !text.is_empty() {
            text += &format!("[{label}]");
            continue;
        }
        if !text.is_empty() {
            text.push('.');
        }
        if is_plain(label) || is_number(label) { text += label } else { text += &format!("\"{label}\"") }
    }
    text
}

pub fn is_number(label: &str) -> bool {
    !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_plain(label: &str) -> bool {
    let mut chars = label.chars();
    chars.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_printed_as_they_are_written() {
        assert_eq!(display("layer3.5.conv2"), "layer3[5].conv2");
        assert_eq!(display("trunk_output.block1.block1-0"), "trunk_output.block1.\"block1-0\"");
        assert_eq!(display("0.add"), "0.add");
        assert!(inside("layer1.0.conv1", "layer1"));
        assert!(!inside("layer10", "layer1") && !inside("layer1", "layer1"));
        assert_eq!((parent("a.b.c"), last("a.b.c"), parent("a")), ("a.b", "c", ""));
    }
}
