//! Large contents in pieces, with credit.
