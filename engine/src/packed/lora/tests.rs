//! Small matrices against the products that they stand for.
