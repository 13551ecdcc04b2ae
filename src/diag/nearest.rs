//! Words of messages: the nearest of the names that exist, lists, and counts.

/// The names nearest to `name`, best first, none that is too far to be meant, and never itself: a name that is there is
/// not misspelt. One without a character in common is none. At most three.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let wanted = name.to_lowercase();
    let len = wanted.chars().count();
    let limit = (len / 3).clamp(1, 4);
    let mut scored: Vec<(usize, &str)> = vec![];
    for candidate in candidates.into_iter().filter(|candidate| *candidate != name) {
        let lower = candidate.to_lowercase();
        let contained = wanted.len() >= 3 && (lower.contains(&wanted) || (lower.len() >= 3 && wanted.contains(&lower)));
        let distance = distance(&wanted, &lower, limit + 1);
        if distance <= limit && distance < len.max(lower.chars().count()) {
            scored.push((distance, candidate));
        } else if contained {
            scored.push((limit + 1, candidate));
        }
    }
    scored.sort_by_key(|(score, _)| *score);
    let mut names: Vec<&str> = vec![];
    for (_, candidate) in scored {
        if !names.contains(&candidate) {
            names.push(candidate);
        }
    }
    names.truncate(3);
    names
}

/// `did you mean `linear`?`, where something is near enough.
pub fn suggest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let near = nearest(name, candidates);
    (!near.is_empty()).then(|| format!("did you mean {}?", list(&near)))
}

/// The beginning of a text that is too long for a message.
pub fn short(text: &str) -> std::borrow::Cow<'_, str> {
    match text.char_indices().nth(120) {
        Some((end, _)) => format!("{} ..", &text[..end]).into(),
        None => text.into(),
    }
}

/// `` `a`, `b` or `c` ``
pub fn list<T: AsRef<str>>(names: &[T]) -> String {
    joined(&quoted(names), "or")
}

/// `` `a`, `b` and `c` ``
pub fn and<T: AsRef<str>>(names: &[T]) -> String {
    joined(&quoted(names), "and")
}

fn quoted<T: AsRef<str>>(names: &[T]) -> Vec<String> {
    names.iter().map(|name| format!("`{}`", name.as_ref())).collect()
}

/// `a, b or c`, where `word` is `or`.
pub fn joined(names: &[String], word: &str) -> String {
    match names.split_last() {
        Some((last, most)) if !most.is_empty() => format!("{} {word} {last}", most.join(", ")),
        _ => names.concat(),
    }
}

/// `1 layer`, `2 layers`
pub fn count(number: usize, of: &str) -> String {
    format!("{number} {of}{}", if number == 1 { "" } else { "s" })
}

/// Optimal string alignment distance (Damerau-Levenshtein with adjacent swaps), `cap` where it is at least that.
fn distance(a: &str, b: &str, cap: usize) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    if a.len().abs_diff(b.len()) >= cap {
        return cap;
    }
    let width = b.len() + 1;
    let mut rows = vec![0; (a.len() + 1) * width];
    for (j, cell) in rows.iter_mut().take(width).enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        rows[i * width] = i;
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[(i - 1) * width + j] + 1)
                .min(rows[i * width + j - 1] + 1)
                .min(rows[(i - 1) * width + j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[(i - 2) * width + j - 2] + 1);
            }
            rows[i * width + j] = best;
        }
    }
    rows[a.len() * width + b.len()].min(cap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let ops = ["linear", "conv2d", "dropout", "relu"];
        assert_eq!(nearest("liner", ops), ["linear"]);
        assert_eq!(nearest("conv", ops), ["conv2d"]);
        assert_eq!(nearest("rleu", ops), ["relu"]);
        assert!(nearest("softmax", ops).is_empty());
        assert_eq!(nearest("relu", ["relu", "prelu"]), ["prelu"]);
        // one character for another is all of it
        assert!(nearest("q", ["0", "1", "k"]).is_empty());
        assert_eq!(nearest("q", ["Q", "q1", "qkv"]), ["Q", "q1"]);
        assert_eq!(suggest("dropuot", ops).as_deref(), Some("did you mean `dropout`?"));
    }
}
