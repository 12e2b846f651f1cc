//! Walking the tree with two threads: watch, list, descend.
