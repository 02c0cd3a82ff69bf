//! Conformance: checks that every store and registry must pass.
//!
//! An adapter implements [`Subject`] and writes `tidegate_stages::store_conformance!(open);`, where `open()` is an async function
//! that returns a new, empty subject. Each check becomes one test.

use std::future::Future;
use std::sync::Arc;

use crate::ports::{Registry, StateStore};

pub mod due;
pub mod effects;
pub mod epochs;
pub mod faults;
pub mod histories;
pub mod pauses;
pub mod registries;
pub mod schedules;
pub mod states;

/// A store under test.
pub trait Subject: Send + Sized {
    /// Returns its port for states.
    fn states(&self) -> Arc<dyn StateStore>;
    /// Returns its port for registrations.
    fn registry(&self) -> Arc<dyn Registry>;
    /// Closes the store in order and opens it again with the same content.
    fn reopen(self) -> impl Future<Output = Self> + Send;
}

/// Generates one test per check; see the [module](crate::testkit::conformance).
#[macro_export]
macro_rules! store_conformance {
    ($open:expr) => {
        $crate::store_conformance!(@each $open; states:
            an_unknown_actor_has_no_head,
            a_head_is_read_back_whole,
            no_state_and_an_empty_state_differ,
            a_later_save_replaces_the_head,
            saves_of_one_actor_apply_in_the_order_of_their_calls,
            one_batch_may_hold_an_actor_twice,
            an_empty_batch_has_an_empty_answer,
            a_dropped_answer_does_not_undo_its_save,
            many_savers_at_once_lose_nothing,
            names_never_mix,
            a_large_state_is_kept,
            what_was_acknowledged_is_there_after_reopening,
            deleting_removes_head_and_history,
            deleting_keeps_its_place_among_saves,
            actors_of_a_system_are_listed_page_by_page);
        $crate::store_conformance!(@each $open; epochs:
            an_older_owner_replaces_nothing,
            every_epoch_is_higher_than_the_ones_before,
            an_epoch_is_claimed_above_those_of_other_data);
        $crate::store_conformance!(@each $open; histories:
            only_appended_revisions_are_history,
            a_revision_holds_what_its_head_held,
            appending_a_revision_again_replaces_it,
            an_interval_is_inclusive_ascending_and_limited,
            an_interval_finds_its_entries_in_a_long_history,
            a_history_with_gaps_is_searched_all_the_same,
            pages_of_an_interval_follow_each_other,
            a_stream_brings_all_of_it,
            the_newest_at_a_time_is_found,
            histories_are_appended_without_a_head,
            retention_by_number_keeps_the_newest,
            retention_by_age_keeps_the_newest,
            histories_never_mix);
        $crate::store_conformance!(@each $open; effects:
            an_actor_without_effects_has_no_rows,
            rows_are_written_with_their_head,
            rows_are_written_without_a_head,
            a_refused_save_leaves_no_rows,
            an_acknowledged_row_is_gone,
            rows_written_twice_are_there_once,
            of_the_seen_effects_of_a_source_the_newest_counts,
            a_forgotten_source_is_seen_no_more_and_may_come_back,
            pages_of_an_outbox_follow_each_other,
            actors_with_undelivered_effects_are_found,
            a_new_owner_takes_over_an_actor,
            deleting_leaves_outbox_and_seen,
            deleting_takes_every_parent_of_the_name,
            rows_are_there_after_reopening,
            every_save_has_one_outcome_and_an_actors_come_in_order);
        $crate::store_conformance!(@each $open; due:
            due_work_is_read_in_the_order_of_its_times,
            due_work_of_one_time_is_all_there_page_by_page,
            due_work_with_the_same_key_is_one_entry,
            removed_due_work_is_gone,
            names_of_due_work_never_mix,
            large_due_work_comes_in_pages,
            due_work_is_there_after_reopening);
        $crate::store_conformance!(@each $open; pauses:
            a_pause_is_read_back_replaced_and_removed,
            names_of_pauses_never_mix,
            many_pauses_are_there_after_reopening);
        $crate::store_conformance!(@each $open; schedules:
            a_schedule_is_read_back_whole_and_replaced,
            names_of_schedules_never_mix,
            schedules_are_listed_page_by_page,
            schedules_are_there_after_reopening);
        $crate::store_conformance!(@each $open; faults:
            a_lost_write_leaves_what_was_there,
            a_late_write_keeps_its_place,
            a_write_repeated_after_a_timeout_is_there_once,
            a_torn_batch_is_completed_by_repeating_it,
            a_store_that_was_cut_off_goes_on);
        $crate::store_conformance!(@each $open; registries:
            an_empty_registry_has_nothing,
            what_was_put_is_loaded_whole,
            an_entry_replaces_the_one_of_its_name,
            changes_apply_in_order,
            systems_are_apart,
            a_registry_is_there_after_reopening);
    };
    (@each $open:expr; $module:ident: $($check:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $check() {
                $crate::testkit::conformance::$module::$check($open().await).await;
            }
        )*
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryStore;

    struct Memory(MemoryStore);

    impl Subject for Memory {
        fn states(&self) -> Arc<dyn StateStore> {
            Arc::new(self.0.clone())
        }
        fn registry(&self) -> Arc<dyn Registry> {
            Arc::new(self.0.clone())
        }
        async fn reopen(self) -> Self {
            self
        }
    }

    #[expect(clippy::unused_async, reason = "the suite opens a subject with an async function")]
    async fn open() -> Memory {
        Memory(MemoryStore::new())
    }

    crate::store_conformance!(open);
}
