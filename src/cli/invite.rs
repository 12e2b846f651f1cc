//! `dirsync invite`: a code for another machine, and what to do with it. Deliberately not here:
//! what a code is (`model/invitation.rs`).

use super::{Failure, say};
use crate::client::Client;
use crate::humanize::{counted, listed};
use crate::views::invite::{InvitationsView, InviteView};
use clap::Args;
use clap::builder::RangedU64ValueParser;
use serde_json::json;

#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(super) struct InviteArgs {
    /// The code ends after so many minutes
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = RangedU64ValueParser::<u64>::new().range(1..=1440))]
    minutes: u64,
    /// So many machines may join with it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = RangedU64ValueParser::<u32>::new().range(1..=64))]
    uses: u32,
    /// They may read the folder, and whatever they change is taken by no other machine
    #[arg(long)]
    read_only: bool,
    /// Print the code alone, for a pipe to 'dirsyncd DIR --join -'
    #[arg(short, long)]
    quiet: bool,
    /// Only say which invitations are open
    #[arg(long, conflicts_with_all = ["minutes", "uses", "read_only", "quiet", "cancel"])]
    list: bool,
    /// Close all that are open
    #[arg(long, conflicts_with_all = ["minutes", "uses", "read_only", "quiet"])]
    cancel: bool,
}

pub(super) async fn invite(client: &mut Client, json: bool, args: &InviteArgs) -> Result<(), Failure> {
    if args.list {
        let open: InvitationsView = client.get("/v1/invite", &[]).await?;
        return say(json, &open, |open| all(open, "no invitation is open"));
    }
    if args.cancel {
        let closed: InvitationsView = client.post("/v1/invite/cancel", &json!({})).await?;
        return say(json, &closed, |closed| {
            let count = closed.invitations.len() as u64;
            format!("closed {}\n", counted(count, "invitation", "invitations"))
        });
    }
    let wanted = json!({ "uses": args.uses, "seconds": args.minutes * 60, "read_only": args.read_only });
    let invited: InviteView = client.post("/v1/invite", &wanted).await?;
    say(json, &invited, |invited| if args.quiet { format!("{}\n", invited.code) } else { text(invited) })
}

fn text(InviteView { code, command, uses, read_only, seconds_left, qr: _, addresses }: &InviteView) -> String {
    let minutes = counted(seconds_left.div_ceil(60), "minute", "minutes");
    let (one, many) = if *read_only {
        ("machine that may only read", "machines that may only read")
    } else {
        ("machine", "machines")
    };
    let machines = counted(u64::from(*uses), one, many);
    let ways: Vec<_> = addresses.iter().map(|address| format!("--peer {address}")).collect();
    let elsewhere = match ways[..] {
        [] => String::new(),
        _ => format!("Where no broadcast reaches this machine, add {}.\n", listed(&ways).replace(" and ", " or ")),
    };
    format!(
        "{code}\n\nFor {machines}, within {minutes}. On the other machine run, with the folder to sync as DIR:\n  {command}\n{elsewhere}"
    )
}

fn all(open: &InvitationsView, none: &str) -> String {
    if open.invitations.is_empty() {
        return format!("{none}\n");
    }
    let line = |minutes: u64, uses: u32| {
        if uses == 0 {
            let left = counted(minutes, "minute", "minutes");
            return format!("kept for a machine that has not joined yet, {left} left\n");
        }
        let machines = counted(u64::from(uses), "more machine", "more machines");
        format!("for {machines}, {} left\n", counted(minutes, "minute", "minutes"))
    };
    open.invitations.iter().map(|open| line(open.seconds_left.div_ceil(60), open.uses_left)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::invite::OpenInvitationView;

    #[test]
    fn an_invitation_says_the_code_the_command_and_how_long() {
        let view = InviteView {
            code: "0123-4567-89AB-CDEF".into(),
            command: "dirsyncd DIR --join 0123-4567-89AB-CDEF".into(),
            uses: 1,
            read_only: true,
            seconds_left: 600,
            qr: Vec::new(),
            addresses: vec!["10.0.0.7:6000".into(), "192.0.2.7:6000".into()],
        };
        insta::assert_snapshot!(text(&view), @r"
        0123-4567-89AB-CDEF

        For 1 machine that may only read, within 10 minutes. On the other machine run, with the folder to sync as DIR:
          dirsyncd DIR --join 0123-4567-89AB-CDEF
        Where no broadcast reaches this machine, add --peer 10.0.0.7:6000 or --peer 192.0.2.7:6000.
        ");
    }

    #[test]
    fn open_invitations_are_a_line_each() {
        let open = |uses_left, seconds_left| OpenInvitationView { uses_left, seconds_left };
        let view = InvitationsView { invitations: vec![open(1, 541), open(3, 60), open(0, 60)] };
        assert_eq!(
            all(&view, "none"),
            "for 1 more machine, 10 minutes left\nfor 3 more machines, 1 minute left\nkept for a \
             machine that has not joined yet, 1 minute left\n"
        );
        assert_eq!(all(&InvitationsView { invitations: Vec::new() }, "none"), "none\n");
    }
}
