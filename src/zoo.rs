//! The files that ship with archc: base networks and blocks, written in the language. A family is a file in zoo/ and
//! its line here.

macro_rules! files {
    ($($name:literal,)*) => {
        /// Every file of the zoo: its name and text.
        pub static FILES: &[(&str, &str)] = &[$(($name, include_str!(concat!("../zoo/", $name)))),*];
    };
}

files! {
    "alexnet.arch",
    "blocks.arch",
    "convnext.arch",
    "densenet.arch",
    "efficientnet.arch",
    "googlenet.arch",
    "inception.arch",
    "maxvit.arch",
    "mnasnet.arch",
    "mobilenet.arch",
    "regnet.arch",
    "resnet.arch",
    "shufflenet.arch",
    "squeezenet.arch",
    "swin.arch",
    "timm_convnext.arch",
    "timm_efficientnet.arch",
    "timm_mobilenet.arch",
    "timm_swin.arch",
    "timm_vit.arch",
    "vgg.arch",
    "vit.arch",
}

/// The file of blocks that every file sees.
pub const BLOCKS: &str = "blocks.arch";

/// The text of a file of the zoo.
pub fn text(name: &str) -> Option<&'static str> {
    FILES.iter().find(|(file, _)| *file == name).map(|(_, text)| *text)
}

/// Every network of the zoo that is a network of its own (not a family to be given arguments): name and file.
pub fn networks() -> Vec<(&'static str, &'static str)> {
    let mut networks = vec![];
    for (file, text) in FILES {
        for (name, params) in definitions(text) {
            if params.split(',').all(|param| param.trim().is_empty() || param.contains('=')) {
                networks.push((name, *file));
            }
        }
    }
    networks
}

/// The file that defines the network `name`.
pub fn file_of(name: &str) -> Option<&'static str> {
    FILES.iter().find(|(_, text)| defines(text, name)).map(|(file, _)| *file)
}

/// Whether a text of the zoo defines the network `name`.
pub fn defines(text: &str, name: &str) -> bool {
    definitions(text).any(|(network, _)| network == name)
}

/// `network NAME(PARAMS)` at the starts of lines. The zoo is archc's own text: it is written so that this finds it.
fn definitions(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| {
        let rest = line.strip_prefix("network ")?;
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_'))?;
        // a family's may go on in the next line
        let params = rest[end..].strip_prefix('(').unwrap_or_default();
        Some((&rest[..end], params.split_once(')').map_or(params, |(params, _)| params)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_found_and_families_are_not() {
        let names: Vec<&str> = networks().into_iter().map(|(name, _)| name).collect();
        assert!(names.contains(&"resnet50") && names.contains(&"swin_t"));
        assert!(!names.contains(&"resnet") && !names.contains(&"timm_vit"));
        assert_eq!(file_of("resnet18"), Some("resnet.arch"));
        assert_eq!(file_of("resnet19"), None);
    }
}
