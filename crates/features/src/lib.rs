//! Nothing: this crate only unites the features of dependencies; see its Cargo.toml.
