//! The files that ship with archc: base networks and blocks, written in the language. A family is a file in zoo/ and
//! its line here.

/// A file of the zoo.
#[derive(Clone, Copy, Debug)]
pub struct File {
    pub name: &'static str,
    pub text: &'static str,
    pub keys: Keys,
}

/// Whose names the tensors of a file's networks have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    Torchvision,
    Timm,
    /// Those of the networks' authors.
    Authors,
    /// The file has no networks.
    None,
}

impl Keys {
    /// The name of the library.
    pub fn name(self) -> &'static str {
        match self {
            Keys::Torchvision => "torchvision",
            Keys::Timm => "timm",
            Keys::Authors => "its authors",
            Keys::None => "none",
        }
    }
}

impl File {
    /// What its networks are called together: its name without the ending.
    pub fn family(self) -> &'static str {
        self.name.trim_end_matches(".arch")
    }

    /// Its first line, which says what it holds and who devised it.
    pub fn title(self) -> &'static str {
        let first = self.text.lines().next().unwrap_or_default();
        first.trim_start_matches('#').trim()
    }
}

macro_rules! files {
    ($($name:literal of $keys:ident,)*) => {
        /// Every file of the zoo.
        pub static FILES: &[File] =
            &[$(File { name: $name, text: include_str!(concat!("../zoo/", $name)), keys: Keys::$keys }),*];
    };
}

files! {
    "alexnet.arch" of Torchvision,
    "blocks.arch" of None,
    "convnext.arch" of Torchvision,
    "densenet.arch" of Torchvision,
    "dinov2.arch" of Authors,
    "efficientnet.arch" of Torchvision,
    "ghostnet.arch" of Timm,
    "googlenet.arch" of Torchvision,
    "inception.arch" of Torchvision,
    "maxvit.arch" of Torchvision,
    "mnasnet.arch" of Torchvision,
    "mobilenet.arch" of Torchvision,
    "regnet.arch" of Torchvision,
    "repvgg.arch" of Timm,
    "resnet.arch" of Torchvision,
    "segmentation.arch" of Torchvision,
    "shufflenet.arch" of Torchvision,
    "squeezenet.arch" of Torchvision,
    "swin.arch" of Torchvision,
    "timm_beit.arch" of Timm,
    "timm_convnext.arch" of Timm,
    "timm_densenet.arch" of Timm,
    "timm_efficientnet.arch" of Timm,
    "timm_eva.arch" of Timm,
    "timm_maxvit.arch" of Timm,
    "timm_mixnet.arch" of Timm,
    "timm_mobilenet.arch" of Timm,
    "timm_regnet.arch" of Timm,
    "timm_relpos.arch" of Timm,
    "timm_resnet.arch" of Timm,
    "timm_senet.arch" of Timm,
    "timm_sequencer.arch" of Timm,
    "timm_sknet.arch" of Timm,
    "timm_swin.arch" of Timm,
    "timm_vgg.arch" of Timm,
    "timm_vit.arch" of Timm,
    "vgg.arch" of Torchvision,
    "vit.arch" of Torchvision,
}

/// The file of blocks that every file sees.
pub const BLOCKS: &str = "blocks.arch";

/// The text of a file of the zoo.
pub fn text(name: &str) -> Option<&'static str> {
    FILES.iter().find(|file| file.name == name).map(|file| file.text)
}

/// Every network of the zoo that is a network of its own (not a family to be given arguments), and its file.
pub fn networks() -> Vec<(&'static str, &'static File)> {
    let of = |file: &'static File| {
        let whole = definitions(file.text).filter(|(_, params)| has_defaults(params));
        whole.map(move |(name, _)| (name, file))
    };
    FILES.iter().flat_map(of).collect()
}

/// Whether a network of the zoo has a parameter of that name.
pub fn takes(file: &File, name: &str, param: &str) -> bool {
    let params = definitions(file.text).find(|(network, _)| *network == name).map_or("", |(_, params)| params);
    params.split(',').any(|one| one.split('=').next().is_some_and(|one| one.trim() == param))
}

/// The file that defines the network `name`.
pub fn file_of(name: &str) -> Option<&'static str> {
    FILES.iter().find(|file| defines(file.text, name)).map(|file| file.name)
}

/// Whether a text of the zoo defines the network `name`.
pub fn defines(text: &str, name: &str) -> bool {
    definitions(text).any(|(network, _)| network == name)
}

/// `network NAME(PARAMS)` at the starts of lines. The zoo is archc's own text: it is written so that this finds it.
fn definitions(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let starts = text.match_indices("network ").map(|(at, word)| (at, at + word.len()));
    starts.filter(move |(at, _)| *at == 0 || text.as_bytes()[at - 1] == b'\n').filter_map(move |(_, start)| {
        let rest = &text[start..];
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_'))?;
        let params = rest[end..].strip_prefix('(').map_or("", |params| &params[..closing(params)]);
        Some((&rest[..end], params))
    })
}

/// Where the bracket that is open at the start of `text` closes.
fn closing(text: &str) -> usize {
    let mut depth = 0;
    let end = text.char_indices().find(|(_, c)| {
        depth += i32::from(matches!(c, '(' | '[')) - i32::from(matches!(c, ')' | ']'));
        depth < 0
    });
    end.map_or(text.len(), |(at, _)| at)
}

/// Whether every parameter of a list has a default.
fn has_defaults(params: &str) -> bool {
    let mut depth = 0;
    let parts = params.split(|c| {
        depth += i32::from(matches!(c, '(' | '[')) - i32::from(matches!(c, ')' | ']'));
        c == ',' && depth == 0
    });
    parts.map(str::trim).all(|param| param.is_empty() || param.contains('='))
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

    #[test]
    fn parameters_may_hold_brackets_and_line_ends() {
        let text = "network a(x = (1, 2), y = f(3)) = b\n# network c\nnetwork d(\n    x = [1, 2],\n    y,\n) {\n}\nnetwork e {\n}";
        let found: Vec<_> = definitions(text).map(|(name, params)| (name, has_defaults(params))).collect();
        assert_eq!(found, [("a", true), ("d", false), ("e", true)]);
    }
}
