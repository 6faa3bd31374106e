//! Nothing to build; it exists so that build dependencies take part in the union.

fn main() {}
