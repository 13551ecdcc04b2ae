//! archc: a compiler for edits to pretrained networks.
