//! Which files `--input` names for which input of the network, and the samples that belong together.
//!
//! A network of one input takes paths as they are; one of several needs `--input NAME=PATH`, and as many samples for each.
//! A .safetensors file that holds a tensor for every input by name serves all of them.

use std::path::{Path, PathBuf};

use crate::diag::{Code, Diagnostics, Problem, and, suggest};
use crate::io::inputs::{Batches, Inputs, expand};
use crate::io::tensors::Wanted;
use crate::tensor::Tensor;
use crate::weights::Store;

/// The files of each input, in the network's order.
pub struct Given {
    pub files: Vec<Inputs>,
}

/// Samples that are run at once.
pub struct Together {
    /// What results call them.
    pub names: Vec<String>,
    /// One an input.
    pub tensors: Vec<Tensor>,
    /// Files that could not be read and were left out.
    pub problems: Vec<Problem>,
}

/// Finds the files of `paths` for the inputs `names`.
///
/// # Errors
/// An input that is unknown, or that is given nothing; paths that give nothing; different numbers of pictures.
pub fn given(paths: &[PathBuf], names: &[&str]) -> Result<Given, Diagnostics> {
    let mut problems = Diagnostics::new();
    let mut named: Vec<Vec<PathBuf>> = vec![vec![]; names.len()];
    for path in paths {
        match assign(path, names) {
            Ok((Some(at), path)) => named[at].push(path.to_path_buf()),
            Ok((None, path)) => named.iter_mut().for_each(|paths| paths.push(path.to_path_buf())),
            Err(problem) => problems.push(problem.anywhere()),
        }
    }
    if problems.has_errors() {
        return Err(problems);
    }
    let nothing: Vec<&str> =
        names.iter().zip(&named).filter(|(_, paths)| paths.is_empty()).map(|(name, _)| *name).collect();
    if !paths.is_empty() && !nothing.is_empty() {
        let problem = Problem::new(Code::Input, format!("nothing is given for the input {}", and(&nothing)));
        return Err(problem.hint(example(names)).anywhere().into());
    }
    let mut files = vec![];
    for paths in &named {
        match expand(paths) {
            Ok(found) => files.push(found),
            Err(found) => problems.extend(found),
        }
    }
    if problems.has_errors() {
        return Err(problems);
    }
    let given = Given { files };
    // how many samples a file of tensors holds is known when it is read
    if let (Some(counts), true) = (given.pictures(), names.len() > 1)
        && counts.iter().any(|count| *count != counts[0])
    {
        return Err(unequal(names, &counts).anywhere().into());
    }
    Ok(given)
}

/// The input that a path is for, and the path itself; no input where it is for all of them.
fn assign<'a>(path: &'a Path, names: &[&str]) -> Result<(Option<usize>, &'a Path), Problem> {
    let split = path.to_str().and_then(|text| text.split_once('='));
    let find = |name: &str| names.iter().position(|other| *other == name);
    if let [_] = names {
        // a file may be called `a=b.png`
        return match split {
            _ if path.exists() => Ok((Some(0), path)),
            Some((name, rest)) if find(name).is_some() => Ok((Some(0), Path::new(rest))),
            Some((name, rest)) if Path::new(rest).exists() => Err(unknown(name, names)),
            _ => Ok((Some(0), path)),
        };
    }
    match split {
        Some((name, rest)) if find(name).is_some() => Ok((find(name), Path::new(rest))),
        _ if path.extension().is_some_and(|extension| extension == "safetensors") && path.is_file() => {
            let store = Store::open_file(path)?;
            let lacking: Vec<&str> =
                names.iter().copied().filter(|name| !store.tensors().contains_key(*name)).collect();
            if lacking.is_empty() {
                return Ok((None, path));
            }
            let message = format!("`{}` holds no tensor called {}", path.display(), and(&lacking));
            Err(Problem::new(Code::Input, message)
                .note("without a name it is for all inputs of the network")
                .hint(example(names)))
        }
        Some((name, _)) if !path.exists() => Err(unknown(name, names)),
        _ => {
            let message = format!("the network has the inputs {}, which is `{}` for?", and(names), path.display());
            Err(Problem::new(Code::Input, message).hint(example(names)))
        }
    }
}

fn unknown(name: &str, names: &[&str]) -> Problem {
    let hint = suggest(name, names.iter().copied()).unwrap_or_else(|| example(names));
    Problem::new(Code::Input, format!("the network has no input `{name}`, it has {}", and(names))).hint(hint)
}

fn example(names: &[&str]) -> String {
    let options: Vec<String> =
        names.iter().zip(('a'..='z').cycle()).map(|(name, letter)| format!("--input {name}={letter}.png")).collect();
    format!("`{}`", options.join(" "))
}

fn unequal(names: &[&str], counts: &[usize]) -> Problem {
    let counted: Vec<String> = names.iter().zip(counts).map(|(name, count)| format!("`{name}` has {count}")).collect();
    let message = format!("the inputs have different numbers of samples: {}", counted.join(", "));
    Problem::new(Code::Input, message).hint("samples pair up in order: give as many for each input")
}

impl Given {
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().flat_map(|inputs| &inputs.items).map(|item| item.path.as_path())
    }

    pub fn is_noise(&self) -> bool {
        self.files.iter().all(|inputs| inputs.items.is_empty())
    }

    /// How many files there are, and most likely samples.
    pub fn len(&self) -> usize {
        self.files.iter().map(|inputs| inputs.items.len()).max().unwrap_or(0)
    }

    /// How many samples each input has, where all files are pictures.
    pub fn pictures(&self) -> Option<Vec<usize>> {
        let known = self.files.iter().flat_map(|inputs| &inputs.items).all(|item| !item.tensors);
        known.then(|| self.files.iter().map(|inputs| inputs.items.len()).collect())
    }

    pub fn skipped(&self) -> usize {
        self.files.iter().map(|inputs| inputs.skipped).sum()
    }

    /// The samples in order, at most `batch` at once.
    pub fn samples<'a>(&'a self, wanted: &'a [Wanted], batch: usize) -> Samples<'a> {
        let readers = self.files.iter().zip(wanted).map(|(inputs, wanted)| inputs.batches(wanted, batch)).collect();
        Samples { names: wanted.iter().map(|wanted| wanted.name.as_str()).collect(), readers, done: 0 }
    }
}

/// See [`Given::samples`].
pub struct Samples<'a> {
    names: Vec<&'a str>,
    readers: Vec<Batches<'a>>,
    done: usize,
}

impl Samples<'_> {
    /// The next samples; None at the end.
    ///
    /// # Errors
    /// Of a network of several inputs: different numbers of samples, or a file that cannot be read, whose partner would
    /// be another's.
    pub fn next(&mut self) -> Result<Option<Together>, Problem> {
        let batches: Vec<_> = self.readers.iter_mut().map(Iterator::next).collect();
        if batches.iter().all(Option::is_none) {
            return Ok(None);
        }
        let counts: Vec<usize> = batches.iter().map(|one| one.as_ref().map_or(0, |one| one.names.len())).collect();
        let mut problems: Vec<Problem> = batches.iter().flatten().flat_map(|one| one.problems.clone()).collect();
        if self.readers.len() > 1
            && let Some(problem) = problems.pop()
        {
            return Err(problem.note("samples of several inputs pair up, so that none can be left out"));
        }
        if counts.iter().any(|count| *count != counts[0]) {
            let rest = self.readers.iter_mut().map(|reader| reader.map(|one| one.names.len()).sum::<usize>());
            let counts: Vec<usize> = counts.iter().zip(rest).map(|(now, rest)| self.done + now + rest).collect();
            return Err(unequal(&self.names, &counts));
        }
        self.done += counts[0];
        let batches: Vec<_> = batches.into_iter().flatten().collect();
        let name = |at: usize| {
            let mut parts: Vec<&str> = batches.iter().map(|one| one.names[at].as_str()).collect();
            parts.dedup();
            parts.join(" + ")
        };
        let names = (0..counts[0]).map(name).collect();
        Ok(Some(Together { names, tensors: batches.into_iter().map(|one| one.tensor).collect(), problems }))
    }
}
