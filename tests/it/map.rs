//! The paths that the pages for readers of the code name exist.

use std::path::Path;

#[test]
fn the_map_names_what_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut missing = vec![];
    for page in ["docs/ARCHITECTURE.md", "README.md", "kernels/README.md", "benches/README.md"] {
        let text = std::fs::read_to_string(root.join(page)).expect("a page");
        let folder = Path::new(page).parent().expect("a file lies in a folder");
        // `a/b` in the text begins at the root, [..](a/b) where the page lies
        let named = text.split('`').skip(1).step_by(2).filter(|name| is_path(name)).map(|name| root.join(name));
        let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
        let linked = links.filter(|link| !link.contains("://")).map(|link| root.join(folder).join(link));
        missing.extend(
            named.chain(linked).filter(|path| !path.exists()).map(|path| format!("{page}: {}", path.display())),
        );
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// Whether it is a path of the repository: it begins with a folder that is there at its root.
fn is_path(text: &str) -> bool {
    let first = text.split_once('/').map_or("", |(first, _)| first);
    let folders = ["benches", "docs", "examples", "grammar", "kernels", "src", "tests", "zoo"];
    folders.contains(&first) && text.chars().all(|c| c.is_alphanumeric() || "/._-".contains(c))
}
