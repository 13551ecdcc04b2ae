//! Reads the spec and every file that it uses, each once, and checks that names are defined once and that a spec has its
//! parts once and in order.

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use indexmap::IndexMap;

use super::hosted::{self, Ask};
use super::parts::Parts;
use super::{Definition, Kind, Module, ModuleId, Place, Program};
use crate::diag::{At, Code, Diagnostics, Problem, Result, suggest};
use crate::io::atomic::reason;
use crate::io::open::{self, Open};
use crate::source::{FileId, Sources, Span, below};
use crate::syntax::{self, MAX_TOKENS, tree};
use crate::{ops, zoo};

/// The longest text that is read as a program.
pub(crate) const MAX_BYTES: u64 = 16 << 20;

/// No spec uses more files.
const MAX_FILES: usize = 500;

/// What a file is known by, so that it is read once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Origin {
    Zoo(String),
    File(PathBuf),
}

struct Loading<'a> {
    sources: &'a mut Sources,
    problems: Diagnostics,
    known: HashMap<Origin, ModuleId>,
    /// The files being loaded, outermost first, to find cycles.
    open: Vec<(ModuleId, Origin)>,
    modules: Vec<Module>,
    /// The files of the zoo that are not archc's own.
    zoo: BTreeMap<String, String>,
    /// Words and signs of all of them.
    tokens: usize,
}

/// Loads the spec `file`, which `sources` already holds, and everything it uses. Every mistake found on the way is in
/// the diagnostics; the program is complete where there is none. `ask` tells of a repository which network it holds.
pub fn load(sources: &mut Sources, file: FileId, ask: Ask<'_>) -> (Program, Diagnostics) {
    let zoo = sources.loader().map_or_else(BTreeMap::new, |loader| loader.zoo().into_iter().collect());
    let mut loader = Loading {
        sources,
        zoo,
        problems: Diagnostics::new(),
        known: HashMap::new(),
        open: vec![],
        modules: vec![],
        tokens: 0,
    };
    let source = loader.sources.file(file);
    let origin = match &source.dir {
        Some(dir) => {
            let path = dir.join(Path::new(&source.name).file_name().unwrap_or_default());
            Origin::File(identity(loader.sources, &path))
        }
        None => Origin::Zoo(String::new()),
    };
    let spec = loader.add(file, origin);
    match loader.hosted_base(spec, ask) {
        Ok(()) => loader.base_network(spec),
        Err(problem) => loader.problems.push(problem),
    }
    let blocks = loader.zoo_file(zoo::BLOCKS);
    loader.check_names();
    loader.check_spec(spec);
    let problems = loader.problems;
    (Program { modules: loader.modules, blocks }, problems)
}

/// How many of the zoo's files are kept.
const MOST_KEPT: usize = 100;

/// A text of archc's own. Those that are asked for again are kept: reading them is most of what it takes to compile a network of
/// the zoo, and who compiles all of them reads each many times.
fn builtin(file: FileId, name: &str, text: &str) -> Arc<Parts> {
    static KEPT: Mutex<BTreeMap<(String, FileId), Arc<Parts>>> = Mutex::new(BTreeMap::new());
    // the places in a tree are those of its file
    let key = (name.to_string(), file);
    if let Some(parts) = KEPT.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
        return parts.clone();
    }
    let parts = Arc::new(Parts::new(file, text));
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.len() < MOST_KEPT {
        kept.insert(key, parts.clone());
    }
    parts
}

/// What a file is known by however its path is written.
fn identity(sources: &Sources, path: &Path) -> PathBuf {
    match sources.loader() {
        Some(_) => short(path),
        None => path.canonicalize().unwrap_or_else(|_| path.to_path_buf()),
    }
}

/// The path without `.`, and without `..` where a folder stands before it.
fn short(path: &Path) -> PathBuf {
    let mut short = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(short.components().next_back(), Some(Component::Normal(_))) => {
                short.pop();
            }
            part => short.push(part),
        }
    }
    short
}

/// Reads a file that a text uses.
pub(crate) fn read(sources: &Sources, path: &Path, open: Open) -> std::result::Result<String, Problem> {
    let Some(loader) = sources.loader() else { return read_text(path, open) };
    let bytes = loader
        .load(&short(path))
        .map_err(|error| Problem::new(Code::File, format!("cannot read `{}`: {}", path.display(), reason(&error))))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Problem::new(Code::File, format!("`{}` has more than {MAX_BYTES} bytes", path.display())));
    }
    named(path, bytes)
}

impl Loading<'_> {
    /// Parses a text, makes it a module and loads what it uses.
    fn add(&mut self, file: FileId, origin: Origin) -> ModuleId {
        let id = ModuleId(self.modules.len());
        let text = self.sources.file(file).text.clone();
        let tokens = if self.sources.file(file).builtin { 0 } else { syntax::token_count(&text) };
        self.tokens += tokens;
        let mut parts = None;
        let (tree, problems) = if tokens > 0 && self.tokens > tokens.max(MAX_TOKENS) {
            let message = format!("the files of this spec have more than {MAX_TOKENS} words and signs in all");
            (Arc::default(), Problem::new(Code::Limit, message).at(Span::new(file, 0, 0)).into())
        } else if self.sources.file(file).builtin {
            let own = builtin(file, &self.sources.file(file).name, &text);
            let rest = own.rest.clone();
            parts = Some(own);
            (rest, Diagnostics::new())
        } else {
            let (tree, problems) = syntax::parse(file, &text);
            (Arc::new(tree), problems)
        };
        self.problems.extend(problems);
        self.known.insert(origin.clone(), id);
        let definitions = self.definitions(&tree, parts.as_deref());
        let pick = |item: &tree::Item| if let tree::Item::Use(path) = item { Some(path.clone()) } else { None };
        let used: Vec<tree::Spanned<String>> = tree.items.iter().filter_map(pick).collect();
        self.modules.push(Module { file, tree, parts, uses: vec![], definitions });
        self.open.push((id, origin));
        for path in used {
            match self.used_file(file, &path) {
                Ok(used) if self.modules[id.0].uses.contains(&used) => {}
                Ok(used) => self.modules[id.0].uses.push(used),
                Err(problem) => self.problems.push(problem),
            }
        }
        self.open.pop();
        id
    }

    fn zoo_file(&mut self, name: &str) -> ModuleId {
        let origin = Origin::Zoo(name.to_string());
        if let Some(id) = self.known.get(&origin) {
            return *id;
        }
        let shown = format!("zoo/{name}");
        let file = match self.zoo.get(name) {
            Some(text) => self.sources.add(shown, text.clone(), None),
            None => self.sources.add_builtin(shown, zoo::text(name).expect("the name is of a file of the zoo")),
        };
        self.add(file, origin)
    }

    /// Loads the zoo's file of the base network, where the spec and what it uses do not define it.
    fn base_network(&mut self, spec: ModuleId) {
        let base = self.modules[spec.0].tree.items.iter().find_map(tree::Item::as_base);
        let Some(name) = base.map(|base| base.name.value.clone()) else { return };
        self.network(spec, &name);
    }

    /// The file with the network `name` as a spec sees it; one of the zoo is loaded.
    fn network(&mut self, spec: ModuleId, name: &str) -> Option<ModuleId> {
        let mut seen = std::iter::once(spec).chain(self.modules[spec.0].uses.iter().copied());
        let is_network =
            |id: &ModuleId| self.modules[id.0].definitions.get(name).is_some_and(|found| found.kind == Kind::Network);
        if let Some(own) = seen.find(is_network) {
            return Some(own);
        }
        let given = self.zoo.iter().find(|(_, text)| zoo::defines(text, name)).map(|(file, _)| file.clone());
        let file = given.or_else(|| zoo::file_of(name).map(str::to_string))?;
        Some(self.zoo_file(&file))
    }

    /// Spells out `base hf("owner/repo")`.
    fn hosted_base(&mut self, spec: ModuleId, ask: Ask<'_>) -> Result<()> {
        let items = &self.modules[spec.0].tree.items;
        let Some((item, base)) = items.iter().enumerate().find_map(|(at, item)| Some((at, item.as_base()?))) else {
            return Ok(());
        };
        let span = base.name.span;
        if base.name.value != hosted::WORD || self.network(spec, hosted::WORD).is_some() {
            return Ok(());
        }
        let tree::Item::Base(base) = &self.modules[spec.0].tree.items[item] else { unreachable!("it is the base") };
        let repo = hosted::repository(base)?.to_string();
        let said = ask(&repo).at(span)?;
        let names = hosted::names(&said.architecture);
        let found = names.iter().find_map(|name| Some((name, self.network(spec, name)?)));
        let Some((name, file)) = found else {
            let known = zoo::networks();
            let near = suggest(&said.architecture, known.iter().map(|(name, _)| *name));
            return Err(hosted::unknown(&repo, &said.architecture, near).at(span));
        };
        let takes_classes = {
            let module = &self.modules[file.0];
            let network = module.definitions.get(name).map(|found| module.item(found));
            matches!(network, Some(tree::Item::Network(network)) if network.params.iter().any(|param| param.name.value == "classes"))
        };
        if let tree::Item::Base(base) = &mut Arc::make_mut(&mut self.modules[spec.0].tree).items[item] {
            hosted::spell_out(base, name, &said, takes_classes);
        }
        Ok(())
    }

    fn used_file(&mut self, from: FileId, path: &tree::Spanned<String>) -> Result<ModuleId> {
        let source = self.sources.file(from);
        let zoo_name = match path.value.strip_prefix("zoo:") {
            Some(name) => Some(name),
            None if source.builtin => Some(path.value.as_str()),
            None => None,
        };
        if let Some(name) = zoo_name {
            if zoo::text(name).is_none() && !self.zoo.contains_key(name) {
                let names = zoo::FILES.iter().map(|file| file.name).chain(self.zoo.keys().map(String::as_str));
                let problem = Problem::new(Code::File, format!("the zoo has no file `{name}`"));
                return Err(problem.hints(suggest(name, names)).at(path.span));
            }
            self.refuse_cycle(&Origin::Zoo(name.to_string()), path.span)?;
            return Ok(self.zoo_file(name));
        }
        let dir = source.dir.clone().unwrap_or_default();
        let full = below(&dir, &path.value);
        let origin = Origin::File(identity(self.sources, &full));
        self.refuse_cycle(&origin, path.span)?;
        if let Some(id) = self.known.get(&origin) {
            return Ok(*id);
        }
        if self.modules.len() >= MAX_FILES {
            let problem = Problem::new(Code::Limit, format!("the spec uses more than {MAX_FILES} files"));
            return Err(problem.at(path.span));
        }
        let text = read(self.sources, &full, open::plain).map_err(|problem| problem.at(path.span))?;
        let name = full.display().to_string();
        let file = self.sources.add(name, text, full.parent());
        Ok(self.add(file, origin))
    }

    fn refuse_cycle(&self, origin: &Origin, span: Span) -> Result<()> {
        let Some(start) = self.open.iter().position(|(_, open)| open == origin) else { return Ok(()) };
        let name = |id: ModuleId| self.sources.file(self.modules[id.0].file).name.as_str();
        let mut names: Vec<&str> = self.open[start..].iter().map(|(id, _)| name(*id)).collect();
        names.push(names[0]);
        let problem = Problem::new(Code::UseCycle, format!("files use each other in a circle: {}", names.join(" -> ")));
        Err(problem.hint("move what both need to a third file").at(span))
    }

    /// The definitions of one file, each name once and none that is an op's.
    fn definitions(&mut self, tree: &tree::File, parts: Option<&Parts>) -> IndexMap<String, Definition> {
        let mut found: Vec<(&str, Definition)> = vec![];
        for (item, content) in tree.items.iter().enumerate() {
            let (kind, names): (Kind, Vec<&tree::Name>) = match content {
                tree::Item::Block(block) => (Kind::Block, vec![&block.name]),
                tree::Item::Network(network) => (Kind::Network, vec![&network.name]),
                tree::Item::Let(tree::Let::Function { name, .. }) => (Kind::Let, vec![name]),
                tree::Item::Let(tree::Let::Values { names, .. }) => (Kind::Let, names.iter().collect()),
                tree::Item::Param(param) => (Kind::Let, vec![&param.name]),
                _ => continue,
            };
            let definition = |name: &tree::Name| Definition { kind, place: Place::Item(item), span: name.span };
            found.extend(names.into_iter().map(|name| (name.value.as_str(), definition(name))));
        }
        for (at, part) in parts.into_iter().flat_map(|parts| &parts.parts).enumerate() {
            found.push((&part.name, Definition { kind: part.kind, place: Place::Part(at), span: part.span }));
        }
        found.sort_by_key(|(_, definition)| definition.span.start);
        let mut definitions: IndexMap<String, Definition> = IndexMap::new();
        for (name, definition) in found {
            if ops::find(name).is_some() {
                let problem = Problem::new(Code::Duplicate, format!("`{name}` is an op"));
                self.problems.push(problem.hint("choose another name").at(definition.span));
            } else if let Some(first) = definitions.get(name) {
                let problem = Problem::new(Code::Duplicate, format!("`{name}` is defined twice"));
                self.problems.push(problem.see(first.span, "first defined here").at(definition.span));
            } else {
                definitions.insert(name.to_string(), definition);
            }
        }
        definitions
    }

    /// One name from two used files is an error, unless the file defines it itself.
    fn check_names(&mut self) {
        for module in &self.modules {
            let mut seen: HashMap<&str, Span> = HashMap::new();
            for used in &module.uses {
                for (name, definition) in &self.modules[used.0].definitions {
                    if module.definitions.contains_key(name) {
                        continue;
                    }
                    let Some(first) = seen.insert(name, definition.span) else { continue };
                    let file = |span: Span| self.sources.file(span.file).name.as_str();
                    let message = format!("`{name}` is defined by both {} and {}", file(first), file(definition.span));
                    let use_span = module.tree.items.iter().find_map(|item| match item {
                        tree::Item::Use(path) => Some(path.span),
                        _ => None,
                    });
                    let problem = Problem::new(Code::Duplicate, message)
                        .see(first, "one")
                        .see(definition.span, "the other")
                        .hint("use only one of the files, or define the name here");
                    self.problems.push(problem.at(use_span.unwrap_or(definition.span)));
                }
            }
        }
    }

    /// A spec has one base, at most one `train`, and its edits after the base; used files have none of these.
    fn check_spec(&mut self, spec: ModuleId) {
        let mut base: Option<Span> = None;
        let mut train: Option<Span> = None;
        for (at, module) in self.modules.iter().enumerate() {
            let is_spec = at == spec.0;
            for item in &module.tree.items {
                let (span, word) = match item {
                    tree::Item::Base(one) => (one.name.span, "base"),
                    tree::Item::Edit(edit) => (edit.span, "edit"),
                    tree::Item::Train(train) => (train.span, "train"),
                    tree::Item::Version(version) if version.value != 1 => {
                        let message = format!("this archc knows version 1 of the language, not {}", version.value);
                        self.problems.push(Problem::new(Code::BadValue, message).at(version.span));
                        continue;
                    }
                    _ => continue,
                };
                if !is_spec {
                    let problem = Problem::new(Code::Base, format!("a file that is used cannot hold `{word}`"));
                    self.problems.push(problem.hint("keep definitions in it, and this in the spec").at(span));
                    continue;
                }
                let seen = match word {
                    "base" => &mut base,
                    "train" => &mut train,
                    _ => {
                        if base.is_none() {
                            let problem = Problem::new(Code::Base, "there is no base before this edit");
                            self.problems.push(problem.hint("begin with `base resnet50`").at(span));
                        }
                        continue;
                    }
                };
                if let Some(first) = seen.replace(span) {
                    let problem = Problem::new(Code::Base, format!("a spec has one `{word}`"));
                    self.problems.push(problem.see(first, "the first is here").at(span));
                }
            }
        }
    }
}

/// Reads a program text: UTF-8, not too long.
fn read_text(path: &Path, open: Open) -> std::result::Result<String, Problem> {
    let bytes = open(path).and_then(|opened| opened.rest(vec![], MAX_BYTES));
    let bytes = bytes.map_err(|error| error.problem(Code::File, path))?;
    named(path, bytes)
}

/// Bytes of the file at `path` as text.
fn named(path: &Path, bytes: Vec<u8>) -> std::result::Result<String, Problem> {
    decode(bytes).map_err(|problem| Problem { message: format!("`{}` {}", path.display(), problem.message), ..problem })
}

/// Bytes as UTF-8; the message lacks its subject.
pub(crate) fn decode(bytes: Vec<u8>) -> std::result::Result<String, Problem> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        let byte = error.as_bytes()[at];
        Problem::new(Code::Encoding, format!("is not UTF-8: byte 0x{byte:02x} on line {line}"))
            .hint("save the file as UTF-8")
    })
}
