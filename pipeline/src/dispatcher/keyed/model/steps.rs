//! Steps: what a run does to the machine and its model.

use proptest::prelude::*;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    Push { key: u8, class: u32, exempt: bool, gone: bool },
    Remove { number: u32 },
    ShedLate { key: u8, class: u32, most: usize },
    Take { class: u32, to: u32 },
    Limit { class: u32, limit: usize },
    Subscribe { max: usize, min: usize },
    Cancel { which: usize },
    Grant,
    Release { which: usize },
    Park { which: usize },
    Resume { which: usize, class: u32 },
    Forget { which: usize },
    Free { which: usize },
    Pause { key: u8 },
    ResumeKey { key: u8 },
    EndPauses,
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (key, class, which) = (0u8..6, 0u32..4, 0usize..50);
    let step = prop_oneof![
        8 => (key.clone(), class.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(key, class, exempt, gone)| Step::Push { key, class, exempt, gone }),
        2 => (0u32..60).prop_map(|number| Step::Remove { number }),
        1 => (key.clone(), class.clone(), 0usize..5)
            .prop_map(|(key, class, most)| Step::ShedLate { key, class, most }),
        1 => (class.clone(), class.clone()).prop_map(|(class, to)| Step::Take { class, to }),
        1 => (class.clone(), prop_oneof![Just(usize::MAX), 0usize..3])
            .prop_map(|(class, limit)| Step::Limit { class, limit }),
        1 => (1usize..6, 0usize..6)
            .prop_map(|(max, min)| Step::Subscribe { max, min: min.min(max - 1) }),
        1 => which.clone().prop_map(|which| Step::Cancel { which }),
        8 => Just(Step::Grant),
        6 => which.clone().prop_map(|which| Step::Release { which }),
        2 => which.clone().prop_map(|which| Step::Park { which }),
        2 => (which.clone(), class).prop_map(|(which, class)| Step::Resume { which, class }),
        1 => which.clone().prop_map(|which| Step::Forget { which }),
        4 => which.prop_map(|which| Step::Free { which }),
        2 => key.clone().prop_map(|key| Step::Pause { key }),
        2 => key.prop_map(|key| Step::ResumeKey { key }),
        1 => Just(Step::EndPauses),
    ];
    prop::collection::vec(step, 0..300)
}
