use xt_host::HostKind;

use super::*;
use crate::verb::testing::Fake;

fn spec(on: EventActions) -> DomainSpec {
    let text = "name = 'g'\nkernel = '/k'\nmemory = 64\n";
    let document = xt_config::parse(text, "g.cfg").unwrap();
    let checked = DomainSpec::from_document(&document, xt_config::keys::SPEC_KEYS).unwrap();
    DomainSpec {
        on,
        ..checked.value
    }
}

fn created(on: EventActions) -> (Fake, DomId) {
    let host = Fake::new(HostKind::Xen);
    let created = host.create(&spec(on), &CreateOptions::default());
    let domid = created.unwrap().domid;
    Record::default().write(&host, domid).unwrap();
    (host, domid)
}

/// No note outlives the host's own.
struct Notes {
    dir: tempfile::TempDir,
    owed: Owed,
}

fn notes() -> Notes {
    let dir = tempfile::tempdir().unwrap();
    let owed = Owed::at(&dir.path().join("restarts"));
    Notes { dir, owed }
}

fn after(on: EventActions, reason: ShutdownReason) -> Fake {
    let (host, domid) = created(on);
    host.shut_down(domid, reason);
    let notes = notes();
    round(&host, &notes.owed, |_| true).unwrap();
    assert!(notes.owed.left().is_empty());
    host
}

fn all(action: Action) -> EventActions {
    EventActions {
        poweroff: action,
        reboot: action,
        crash: action,
        watchdog: action,
        soft_reset: action,
    }
}

fn names(host: &Fake) -> Vec<(u16, String)> {
    let domains = host.list().unwrap();
    domains
        .into_iter()
        .map(|domain| (domain.domid, domain.name))
        .collect()
}

#[test]
fn each_end_has_its_setting() {
    let on = EventActions {
        poweroff: Action::Destroy,
        reboot: Action::Restart,
        crash: Action::Preserve,
        watchdog: Action::RenameRestart,
        soft_reset: Action::SoftReset,
    };
    for (reason, action) in [
        (ShutdownReason::Poweroff, Some(Action::Destroy)),
        (ShutdownReason::Reboot, Some(Action::Restart)),
        (ShutdownReason::Crash, Some(Action::Preserve)),
        (ShutdownReason::Watchdog, Some(Action::RenameRestart)),
        (ShutdownReason::SoftReset, Some(Action::SoftReset)),
        (ShutdownReason::Suspend, None),
        (ShutdownReason::Other(9), Some(Action::Preserve)),
    ] {
        assert_eq!(wanted(&on, reason), action, "{reason:?}");
    }
}

#[test]
fn destroy_leaves_nothing() {
    let host = after(all(Action::Destroy), ShutdownReason::Poweroff);
    assert!(names(&host).is_empty());
}

#[test]
fn restart_is_a_new_domain_that_runs_and_is_looked_after() {
    let host = after(all(Action::Restart), ShutdownReason::Crash);
    assert_eq!(names(&host), [(2, "g".to_owned())]);
    let domain = host.domain(DomId(2)).unwrap();
    assert!(!domain.state.paused && domain.state.shutdown.is_none());
    let record = Record::read(&host, DomId(2)).unwrap().unwrap();
    assert_eq!(record.early, 1);
    assert_eq!(count(&host, |_| true).unwrap(), 1);
}

#[test]
fn preserve_keeps_it_and_does_not_come_back_to_it() {
    let host = after(all(Action::Preserve), ShutdownReason::Crash);
    assert_eq!(names(&host), [(1, "g".to_owned())]);
    assert_eq!(count(&host, |_| true).unwrap(), 0);
}

#[test]
fn rename_restart_keeps_the_old_one_under_another_name() {
    let host = after(all(Action::RenameRestart), ShutdownReason::Crash);
    let names = names(&host);
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names[0].0 == 1 && names[0].1.starts_with("g-"), "{names:?}");
    assert_eq!(names[1], (2, "g".to_owned()));
    assert_eq!(count(&host, |_| true).unwrap(), 1);
}

#[test]
fn a_soft_reset_keeps_the_domain() {
    let host = after(all(Action::SoftReset), ShutdownReason::SoftReset);
    assert_eq!(names(&host), [(1, "g".to_owned())]);
    assert!(host.domain(DomId(1)).unwrap().state.shutdown.is_none());
}

#[test]
fn a_soft_reset_that_cannot_be_is_tried_once() {
    let (host, domid) = created(all(Action::SoftReset));
    host.refuse_creation();
    host.shut_down(domid, ShutdownReason::SoftReset);
    assert_eq!(round(&host, &notes().owed, |_| true).unwrap(), 0);
    assert_eq!(names(&host), [(1, "g".to_owned())]);
}

#[test]
fn a_domain_that_ends_at_once_is_not_restarted_for_ever() {
    let (host, _) = created(all(Action::Restart));
    for round_number in 1..10 {
        let Some(domain) = host.list().unwrap().pop() else {
            assert_eq!(round_number, record::EARLY_RESTARTS + 2);
            return;
        };
        host.shut_down(DomId(domain.domid), ShutdownReason::Crash);
        round(&host, &notes().owed, |_| true).unwrap();
    }
    panic!("still restarted");
}

#[test]
fn domains_of_others_are_left_alone() {
    let (host, domid) = created(all(Action::Destroy));
    let theirs = host.create(
        &DomainSpec {
            name: "xls".into(),
            ..spec(all(Action::Destroy))
        },
        &CreateOptions::default(),
    );
    host.shut_down(theirs.unwrap().domid, ShutdownReason::Poweroff);
    host.shut_down(domid, ShutdownReason::Poweroff);
    round(&host, &notes().owed, |_| true).unwrap();
    assert_eq!(names(&host), [(2, "xls".to_owned())]);
}

#[test]
fn a_restart_that_fails_is_said_and_leaves_nothing() {
    let (host, domid) = created(all(Action::Restart));
    host.refuse_creation();
    host.shut_down(domid, ShutdownReason::Reboot);
    let domain = host.domain(domid).unwrap();
    let notes = notes();
    let failure = end(&host, &notes.owed, &domain).unwrap_err();
    assert!(failure.message.contains("refused"));
    assert!(names(&host).is_empty());
    assert!(notes.owed.left().is_empty());
}

#[test]
fn a_domain_that_is_not_ours_to_look_after_is_not_ours_to_wait_for() {
    let host = Fake::new(HostKind::Kvm);
    host.create(&spec(all(Action::Destroy)), &CreateOptions::default())
        .unwrap();
    assert_eq!(count(&host, |_| true).unwrap(), 0);
}

/// What a supervisor notes before it ends the domain.
fn noted(host: &Fake, domid: DomId, notes: &Notes) -> Restart {
    let domain = host.domain(domid).unwrap();
    let spec = host.configuration(domid).unwrap().unwrap();
    host.keep(domid, "xl", b"source").unwrap();
    let restart = next(
        host,
        &domain,
        ShutdownReason::Crash,
        &Record::default(),
        spec,
    )
    .unwrap();
    notes.owed.note(&restart).unwrap();
    restart
}

#[test]
fn a_supervisor_killed_between_end_and_start_loses_no_domain() {
    let (host, domid) = created(all(Action::Restart));
    let notes = notes();
    noted(&host, domid, &notes);
    // Half a note of one that was killed earlier, and something else.
    std::fs::write(notes.dir.path().join("restarts/.tmpX"), "{").unwrap();
    host.destroy(domid).unwrap();
    pay(&host, &notes.owed).unwrap();
    assert_eq!(names(&host), [(2, "g".to_owned())]);
    assert_eq!(count(&host, |_| true).unwrap(), 1);
    assert_eq!(host.kept(DomId(2), "xl").unwrap().unwrap(), b"source");
    // Once.
    assert!(notes.owed.left().is_empty());
    host.destroy(DomId(2)).unwrap();
    pay(&host, &notes.owed).unwrap();
    assert!(names(&host).is_empty());
}

#[test]
fn what_was_not_ended_is_not_started_twice() {
    let (host, domid) = created(all(Action::Restart));
    let notes = notes();
    noted(&host, domid, &notes);
    pay(&host, &notes.owed).unwrap();
    assert_eq!(names(&host), [(1, "g".to_owned())]);
    assert!(notes.owed.left().is_empty());
}

#[test]
fn one_kept_under_another_name_has_its_successor() {
    let (host, domid) = created(all(Action::RenameRestart));
    let notes = notes();
    noted(&host, domid, &notes);
    host.rename(domid, "g-1").unwrap();
    pay(&host, &notes.owed).unwrap();
    let names = names(&host);
    assert_eq!(names, [(1, "g-1".to_owned()), (2, "g".to_owned())]);
}

#[test]
fn nothing_ends_whose_restart_cannot_be_noted() {
    let (host, domid) = created(all(Action::Restart));
    let notes = notes();
    std::fs::write(notes.dir.path().join("restarts"), "a file").unwrap();
    host.shut_down(domid, ShutdownReason::Reboot);
    let domain = host.domain(domid).unwrap();
    let failure = end(&host, &notes.owed, &domain).unwrap_err();
    assert!(failure.message.contains("note the restart"), "{failure}");
    assert_eq!(names(&host), [(1, "g".to_owned())]);
}
