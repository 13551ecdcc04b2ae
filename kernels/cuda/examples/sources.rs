//! Writes every file of kernels, as a compiler takes it, into a folder.

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).expect("the folder to write to"));
    std::fs::create_dir_all(&folder)?;
    for file in archc_cuda::FILES {
        std::fs::write(folder.join(file.name).with_extension("cu"), file.text())?;
    }
    Ok(())
}
