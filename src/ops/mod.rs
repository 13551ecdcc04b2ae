//! The ops of the language.
pub mod init;
