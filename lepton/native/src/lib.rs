//! The native loops: what is done once a byte, once a record or once an event, and needs no Python object each.
//!
//! What decides stays Python: an event that is not plainly good is only said to be odd, and read again there.

mod columns;
mod events;
mod keys;
mod moments;
mod records;
mod scan;
mod sketch;
mod texts;

use pyo3::prelude::*;

#[pymodule]
mod loops {
    #[pymodule_export]
    use super::events::Events;
    #[pymodule_export]
    use super::keys::Newest;
    #[pymodule_export]
    use super::moments::fed;
    #[pymodule_export]
    use super::records::Records;
    #[pymodule_export]
    use super::sketch::registers;
    #[pymodule_export]
    use super::texts::{hashes, murmur2, packed, repeated};
}
