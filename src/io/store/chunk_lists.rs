//! The lists of chunks of contents that are here: kept as they are hashed, made again when they are
//! not kept.
//!
//! May import `engine`'s values and `model`. Deliberately not here: who asks for them, and checking
//! a peer's.

use crate::engine::ServedFile;
use crate::model::chunks::ListHasher;
use crate::model::{ChunkHash, Chunks, ContentId};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

/// Hashes kept, in all: 256 GiB of contents (bytes).
const KEPT_BYTES: usize = 8 << 20;
const READ_BYTES: usize = 256 * 1024;

pub type List = Arc<Vec<ChunkHash>>;

/// Those that were asked for or made last.
#[derive(Debug, Default)]
pub struct ChunkLists(Mutex<VecDeque<(ContentId, List)>>);

impl ChunkLists {
    pub fn keep(&self, content: ContentId, list: List) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(known, _)| *known != content);
        kept.push_back((content, list));
        let bytes =
            |kept: &VecDeque<(ContentId, List)>| kept.iter().map(|(_, list)| 64 + 32 * list.len()).sum::<usize>();
        while bytes(&kept) > KEPT_BYTES && kept.len() > 1 {
            kept.pop_front();
        }
    }

    fn get(&self, content: &ContentId) -> Option<List> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(known, _)| known == content).map(|(_, list)| Arc::clone(list))
    }

    /// Of a file that is here, read for it if need be; `None`: it is not that content any more.
    pub fn of(&self, file: &ServedFile, opened: &File) -> io::Result<Option<List>> {
        if let Some(list) = self.get(&file.content) {
            return Ok(Some(list));
        }
        let Some(list) = make(opened, file)? else { return Ok(None) };
        let list = Arc::new(list);
        self.keep(file.content, Arc::clone(&list));
        Ok(Some(list))
    }
}

/// Reads a file for its list; `None`: it is not that content.
pub fn make(opened: &File, file: &ServedFile) -> io::Result<Option<Vec<ChunkHash>>> {
    let mut hasher = ListHasher::new(Chunks::of(file.size));
    let mut buffer = vec![0; READ_BYTES];
    let mut offset = 0;
    while offset < file.size {
        let part = &mut buffer[..(file.size - offset).min(READ_BYTES as u64) as usize];
        match opened.read_exact_at(part, offset) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        hasher.update(part);
        offset += part.len() as u64;
    }
    Ok(hasher.finish().filter(|(content, _)| *content == file.content).map(|(_, list)| list))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_lists_go_first() {
        let lists = ChunkLists::default();
        let id = |n: u8| ContentId([n; 32]);
        let list = Arc::new(vec![[0; 32]; 100_000]);
        for n in 0..4 {
            lists.keep(id(n), Arc::clone(&list));
        }
        let kept: Vec<_> = (0..4).filter(|n| lists.get(&id(*n)).is_some()).collect();
        assert_eq!(kept, [2, 3]);
    }
}
