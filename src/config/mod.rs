//! The tier file: what an operator writes, parsed and validated before anything is touched.
