//! The lease protocol holds in every state, and each of its checks is needed: without it there is a way to break what it
//! is for.

use crate::bounds::{BUSY, BUSY_STALE, FAILING, FAILOVER, OTHER_PAGE, PLAIN, STALE};
use crate::check::Check;
use crate::explore::{assert_breaks, assert_holds};
use crate::leases::Leases;
use crate::properties as p;

#[test]
fn leases_hold_under_death_pauses_and_an_outage() {
    assert_holds("leases", PLAIN);
}

#[test]
fn leases_hold_where_runs_fail_and_are_handed_back() {
    assert_holds("leases, failing runs", FAILING);
}

#[test]
fn leases_hold_over_a_failover_that_loses_writes() {
    assert_holds("leases, failover", FAILOVER);
    assert_holds("leases, failover, other page", OTHER_PAGE);
}

#[test]
fn leases_hold_however_late_a_copy_of_a_claim_arrives() {
    assert_holds("leases, stale claims", STALE);
}

#[test]
fn what_a_worker_does_not_know_that_it_holds_ends_though_it_is_never_idle() {
    assert_holds("leases, busy worker, failover", BUSY);
    assert_holds("leases, busy worker, stale claims", BUSY_STALE);
}

#[test]
fn each_check_of_leases_is_needed() {
    for (check, property, model) in [
        (Check::IdInSubmit, p::ONE_COMPLETION, PLAIN),
        (Check::NumberInClaim, p::SOMEBODY_RUNS, FAILING),
        (Check::LeaseInClaim, p::ENDS, PLAIN),
        (Check::TimeInToken, p::TOKENS_GROW, FAILOVER),
        (Check::TokenIsNoAttempt, p::TOKENS_GROW, FAILING),
        (Check::TokenInFinish, p::NEWEST_TOKEN, FAILING),
        (Check::RunInFinish, p::LOST_RUN, PLAIN),
        (Check::OutageRule, p::NOT_CUT_OFF, PLAIN),
        (Check::ServerClock, p::NOT_CUT_OFF, PLAIN),
        (Check::MarkInReclaim, p::TOLD_TRUE, PLAIN),
        (Check::ServerInWalk, p::IN_ONE_PLACE, OTHER_PAGE),
        (Check::WalkForIdle, p::IN_ONE_PLACE, FAILOVER),
        (Check::WalkForIdle, p::IN_ONE_PLACE, STALE),
        (Check::HistoryInHeartbeat, p::ENDS, BUSY),
        (Check::GrantInHeartbeat, p::ENDS, BUSY_STALE),
    ] {
        let removed = Some(check);
        let model = Leases { removed, ..model };
        assert_breaks(&format!("without {check:?}"), property, &model);
    }
}

#[test]
fn two_outages_in_a_row_end_no_lease() {
    let model = Leases {
        outages: 2,
        crashes: 0,
        ..PLAIN
    };
    assert_holds("leases, two outages", model);
}
