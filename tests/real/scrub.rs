//! Bit rot, on real disks: a byte of the image below a mounted file system changes, and nothing else says so.

use crate::common::machine::{text_of, wait_linked};
use crate::common::volume::Volume;
use crate::common::{Group, Machine, PATIENCE, converge, eventually, is_root, noise, pace, read, write};
use rustix::fs::MetadataExt;
use std::os::unix::fs::{FileExt, MetadataExt as _};

const NAME: &str = "d/photo";
