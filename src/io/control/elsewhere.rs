//! What other machines' histories hold: asked for, put together with what is here, and brought here
//! by content; and what other machines hold back.
//!
//! May import `engine` and `model`. Deliberately not here: which version a person means
//! (`past.rs`), and the questions on the wire (`engine::past`).

use super::answer::{ApiState, Refusal, blocking};
use super::{HistoryHolder, KeptFacts, Request};
use crate::engine::{AskPast, Event, FetchError, FetchPast, HeldByMachine, MachinePasts, StageId};
use crate::model::{ContentId, DeviceId, RetainReason, SyncPath, text};
use crate::wire::message::{Past, PastWhat, SURVEY_BYTES, SURVEY_PATHS};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The answer is looked for this often.
pub(super) const ASK_EVERY: Duration = Duration::from_millis(10);
/// Contents on their way from histories at once.
const AT_ONCE: usize = 32;

/// Names a question or a fetch.
pub(super) fn ticket() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// What is kept here of a path and below it, or of all; newest first.
pub(super) async fn kept(shared: &ApiState, path: Option<SyncPath>) -> Result<Vec<KeptFacts>, Refusal> {
    let world = shared.world.clone();
    Ok(blocking(move || world.history(path.as_ref())).await?)
}

/// What is kept of a path and below it, or of all, here and on the linked machines, newest first;
/// and who did not answer.
pub(super) async fn everywhere(
    shared: &ApiState,
    path: Option<SyncPath>,
) -> Result<(Vec<KeptFacts>, Vec<String>), Refusal> {
    let here = kept(shared, path.clone()).await?;
    let machines = ask(shared, path, BTreeMap::new(), 0).await?;
    let silent = machines.iter().filter(|machine| !machine.is_whole).map(|machine| shown(&machine.name)).collect();
    Ok((together(here, machines), silent))
}

async fn ask(
    shared: &ApiState,
    path: Option<SyncPath>,
    named: BTreeMap<DeviceId, Vec<(SyncPath, u64)>>,
    bytes: u64,
) -> Result<Vec<MachinePasts>, Refusal> {
    let _one_at_a_time = shared.asking.lock().await;
    let ticket = ticket();
    let event = Event::AskPast(AskPast { ticket, path, named, bytes });
    shared.handle.ask(|answer| Request::Do { event, answer }).await.ok_or_else(Refusal::busy)?;
    loop {
        let taken = shared.handle.ask(|answer| Request::Pasts { ticket, answer }).await.ok_or_else(Refusal::busy)?;
        if let Some(machines) = taken {
            return Ok(machines);
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// One version is often in several histories: of the same path, size, mtime and mode, and it went
/// for the same reason. One that is kept here goes by its time here, another by the earliest.
fn together(here: Vec<KeptFacts>, machines: Vec<MachinePasts>) -> Vec<KeptFacts> {
    type Same = (SyncPath, u64, u64, &'static str);
    let mut all: BTreeMap<Same, Vec<KeptFacts>> = BTreeMap::new();
    let same = |kept: &KeptFacts| (kept.path.clone(), kept.size, kept.mtime, kept.reason);
    for kept in here {
        all.entry(same(&kept)).or_default().push(kept);
    }
    for MachinePasts { device, name, mut pasts, .. } in machines {
        // In the order of time, the first there with the first here.
        pasts.sort_by_key(|past| past.time_ns);
        let mut met: BTreeMap<Same, usize> = BTreeMap::new();
        for past in pasts {
            let elsewhere = HistoryHolder { device, machine: shown(&name), time: past.time_ns };
            let kept = facts(past);
            let key = same(&kept);
            let known = all.entry(key.clone()).or_default();
            known.sort_by_key(|kept| kept.time);
            let at = met.entry(key).or_default();
            if *at == known.len() {
                known.push(kept);
            }
            let one = &mut known[*at];
            *at += 1;
            if one.name.is_empty() {
                one.time = one.time.min(elsewhere.time);
            }
            one.elsewhere.push(elsewhere);
        }
    }
    let mut all: Vec<_> = all.into_values().flatten().collect();
    all.sort_by(|a, b| b.time.cmp(&a.time).then_with(|| a.path.cmp(&b.path)));
    all
}

fn facts(past: Past) -> KeptFacts {
    let Past { path, time_ns, reason, size, mode, mtime, .. } = past;
    let (name, mtime, reason) = (String::new(), mtime.as_stamp(), RetainReason::word(reason));
    KeptFacts { name, path, time: time_ns, reason, size, mtime, mode, elsewhere: Vec::new() }
}

/// Brings all of these back, each to where it was; what came of each, in their order.
pub(super) async fn bring_back(shared: &ApiState, chosen: &[KeptFacts]) -> Result<Vec<Result<(), String>>, Refusal> {
    let mut ends: Vec<Option<Result<(), String>>> = vec![None; chosen.len()];
    for (kept, end) in chosen.iter().zip(&mut ends).filter(|(kept, _)| !kept.name.is_empty()) {
        let (world, back) = (shared.world.clone(), kept.clone());
        *end = Some(blocking(move || world.restore(&back)).await.map_err(|why| why.to_string()));
    }
    // One machine after the other, where several have it.
    for turn in 0.. {
        let open = |n: &usize| !matches!(ends[*n], Some(Ok(()))) && chosen[*n].elsewhere.len() > turn;
        let wanted: Vec<usize> = (0..chosen.len()).filter(|n| chosen[*n].name.is_empty()).filter(open).collect();
        if wanted.is_empty() {
            break;
        }
        for part in parts(chosen, &wanted) {
            let items: Vec<_> = part.iter().map(|n| (&chosen[*n], &chosen[*n].elsewhere[turn])).collect();
            for (n, end) in part.iter().zip(bring_from(shared, &items).await?) {
                ends[*n] = Some(end);
            }
        }
    }
    Ok(ends.into_iter().map(|end| end.unwrap_or_else(|| Err("no machine has it any more".to_owned()))).collect())
}

/// Brings the content of one into staging, from the first machine that still has it.
pub(super) async fn fetch_one(shared: &ApiState, kept: &KeptFacts) -> Result<StageId, Refusal> {
    let mut why = format!("no machine has that version of '{}' any more", kept.path);
    for place in &kept.elsewhere {
        match identify(shared, &[(kept, place)]).await?.first() {
            Some(PastWhat::File(content)) => {
                let ticket = begin(shared, kept, place.device, *content).await?;
                match fetched(shared, ticket).await? {
                    Ok(staged) => return Ok(staged),
                    Err(not_fetched) => why = said_of(not_fetched, place),
                }
            }
            Some(PastWhat::Link(_)) => {
                return Err(Refusal::not_now(format!("that version of '{}' is a link, and has no content", kept.path)));
            }
            _ => why = gone(place),
        }
    }
    Err(Refusal::unknown(why))
}

fn gone(place: &HistoryHolder) -> String {
    format!("{} does not have it any more, or is not linked", place.machine)
}

fn said_of(why: FetchError, place: &HistoryHolder) -> String {
    match why {
        FetchError::Corrupt => format!("what {} sent is not what it said", place.machine),
        FetchError::Staging(trouble) => trouble.text,
        _ => gone(place),
    }
}

/// What linked machines hold back, or `pending` what is still to come to them; those that did not
/// answer say nothing.
pub(super) async fn holding(shared: &ApiState, pending: bool) -> Result<Vec<HeldByMachine>, Refusal> {
    let _one_at_a_time = shared.asking_holds.lock().await;
    let ticket = ticket();
    let event = Event::AskHolds { ticket, pending };
    shared.handle.ask(|answer| Request::Do { event, answer }).await.ok_or_else(Refusal::busy)?;
    loop {
        let taken = shared.handle.ask(|answer| Request::Holding { ticket, answer }).await.ok_or_else(Refusal::busy)?;
        if let Some(machines) = taken {
            return Ok(machines);
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// As many as one question may name.
fn parts(chosen: &[KeptFacts], wanted: &[usize]) -> Vec<Vec<usize>> {
    let mut parts: Vec<Vec<usize>> = Vec::new();
    let mut bytes = 0;
    for &n in wanted {
        let length = chosen[n].path.as_bytes().len();
        let is_full = parts.last().is_none_or(|part| part.len() == SURVEY_PATHS) || bytes + length > SURVEY_BYTES;
        if is_full {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += length;
        parts.last_mut().expect("one was just pushed").push(n);
    }
    parts
}

/// Each from one machine.
async fn bring_from(
    shared: &ApiState,
    items: &[(&KeptFacts, &HistoryHolder)],
) -> Result<Vec<Result<(), String>>, Refusal> {
    let whats = identify(shared, items).await?;
    let mut ends = Vec::with_capacity(items.len());
    for part in items.iter().zip(whats).collect::<Vec<_>>().chunks(AT_ONCE) {
        let mut fetches = Vec::new();
        for ((kept, place), what) in part {
            fetches.push(match what {
                PastWhat::File(content) => Some(begin(shared, kept, place.device, *content).await?),
                _ => None,
            });
        }
        for (((kept, place), what), fetch) in part.iter().zip(fetches) {
            let (world, path, mode) = (shared.world.clone(), kept.path.clone(), kept.mode);
            let end = match (what, fetch) {
                (PastWhat::Link(target), _) => {
                    let target = target.clone();
                    blocking(move || world.restore_link(&target, &path)).await.map_err(|why| why.to_string())
                }
                (_, Some(fetch)) => match fetched(shared, fetch).await? {
                    Ok(staged) => {
                        let put = blocking(move || world.restore_staged(staged, &path, mode)).await;
                        put.map_err(|why| why.to_string())
                    }
                    Err(why) => Err(said_of(why, place)),
                },
                _ => Err(gone(place)),
            };
            ends.push(end);
        }
    }
    Ok(ends)
}

/// What exactly those are on those machines.
pub(super) async fn identify(
    shared: &ApiState,
    items: &[(&KeptFacts, &HistoryHolder)],
) -> Result<Vec<PastWhat>, Refusal> {
    let mut named: BTreeMap<DeviceId, Vec<(SyncPath, u64)>> = BTreeMap::new();
    let mut bytes = 0_u64;
    for (kept, place) in items {
        named.entry(place.device).or_default().push((kept.path.clone(), place.time));
        bytes = bytes.saturating_add(kept.size);
    }
    let mut whats = BTreeMap::new();
    for MachinePasts { device, pasts, .. } in ask(shared, None, named, bytes).await? {
        for past in pasts {
            whats.insert((device, past.path, past.time_ns), (past.size, past.what));
        }
    }
    let what = |(kept, place): &(&KeptFacts, &HistoryHolder)| {
        let what = whats.get(&(place.device, kept.path.clone(), place.time));
        what.filter(|(size, _)| *size == kept.size).map_or(PastWhat::Gone, |(_, what)| what.clone())
    };
    Ok(items.iter().map(what).collect())
}

async fn begin(shared: &ApiState, kept: &KeptFacts, device: DeviceId, content: ContentId) -> Result<u64, Refusal> {
    let (ticket, path, size) = (ticket(), kept.path.clone(), kept.size);
    let event = Event::FetchPast(FetchPast { ticket, device, path, content, size });
    shared.handle.ask(|answer| Request::Do { event, answer }).await.ok_or_else(Refusal::busy)?;
    Ok(ticket)
}

async fn fetched(shared: &ApiState, ticket: u64) -> Result<Result<StageId, FetchError>, Refusal> {
    loop {
        let taken = shared.handle.ask(|answer| Request::Fetched { ticket, answer }).await.ok_or_else(Refusal::busy)?;
        if let Some(how) = taken {
            return Ok(how);
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

pub(super) fn shown(name: &str) -> String {
    text::escape(name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FileTime, Mode};

    fn past(path: &str, time_ns: u64, mtime: i64) -> Past {
        Past {
            path: SyncPath::new(path).unwrap(),
            time_ns,
            reason: RetainReason::Replaced,
            size: 1,
            mode: Mode(0o644),
            mtime: FileTime { secs: mtime, nanos: 0 },
            what: PastWhat::Unidentified,
        }
    }

    fn machine(n: u8, pasts: Vec<Past>) -> MachinePasts {
        MachinePasts { device: DeviceId([n; 32]), name: format!("m{n}"), pasts, is_whole: true }
    }

    #[test]
    fn a_version_that_several_machines_keep_is_one_line_with_all_of_them() {
        let here = KeptFacts { name: "here".into(), ..facts(past("f", 50, 1)) };
        let machines = vec![
            machine(2, vec![past("f", 90, 1), past("f", 40, 1), past("f", 70, 2)]),
            machine(3, vec![past("f", 60, 2), past("g", 45, 1)]),
        ];
        let lines: Vec<_> = together(vec![here], machines)
            .iter()
            .map(|kept| {
                let machines: Vec<_> = kept.elsewhere.iter().map(|place| (&*place.machine, place.time)).collect();
                format!("{} {} {:?} {machines:?}", kept.path, kept.time, kept.name)
            })
            .collect();
        assert_eq!(
            lines,
            [
                r#"f 90 "" [("m2", 90)]"#,
                r#"f 60 "" [("m2", 70), ("m3", 60)]"#,
                r#"f 50 "here" [("m2", 40)]"#,
                r#"g 45 "" [("m3", 45)]"#,
            ]
        );
    }

    #[test]
    fn a_question_names_no_more_than_it_may() {
        let chosen = vec![facts(past(&"x".repeat(200), 1, 1)); 2 * SURVEY_PATHS];
        let wanted: Vec<usize> = (0..chosen.len()).collect();
        let parts = parts(&chosen, &wanted);
        assert_eq!(parts.concat(), wanted);
        assert!(parts.iter().all(|part| part.len() <= SURVEY_PATHS));
        let long = vec![facts(past(&["x".repeat(200), "y".repeat(200)].join("/"), 1, 1)); SURVEY_PATHS];
        let wanted: Vec<usize> = (0..long.len()).collect();
        let bytes = |part: &Vec<usize>| part.iter().map(|n| long[*n].path.as_bytes().len()).sum::<usize>();
        assert!(super::parts(&long, &wanted).iter().all(|part| bytes(part) <= SURVEY_BYTES));
    }
}
