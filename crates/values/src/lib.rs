//! The text of values as PostgreSQL reads and writes it: [`input`] and [`spelling`], and what both need:
//! the text of [`arrays`], of [`composites`] and of [`bytea`], and time [`zones`]. [`numerics`] are made of floating
//! point by way of its text.
//!
//! Statements and files are read and written with it alike, so a value has one text. It knows no
//! statements, no sessions and no files.

pub mod arrays;
pub mod bytea;
pub mod composites;
pub mod input;
pub mod numerics;
pub mod spelling;
pub mod zones;
