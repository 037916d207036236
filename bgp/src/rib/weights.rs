//! Shares of equal paths by the bandwidth of their links (draft-ietf-idr-link-bandwidth).

use sekisho_config::model::Multipath;

use super::forwarding::MAX_WEIGHT;
use crate::wire::Attributes;

/// What each path in use weighs, in their order: 1 each, unless every one of them says its bandwidth and that is to count.
pub(super) fn of(paths: &[&Attributes], multipath: Multipath) -> Vec<u16> {
    let told: Option<Vec<f32>> = paths.iter().map(|path| bandwidth(path)).collect();
    let (true, Some(told)) = (multipath.link_bandwidth && paths.len() > 1, told) else {
        return vec![1; paths.len()];
    };
    let most = told.iter().copied().fold(0.0, f32::max);
    if told.iter().all(|one| *one == most) {
        return vec![1; paths.len()];
    }
    told.into_iter()
        .map(|one| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0 and MAX_WEIGHT"
            )]
            let weight = (one / most * f32::from(MAX_WEIGHT)).round() as u16;
            weight.clamp(1, MAX_WEIGHT)
        })
        .collect()
}

/// Octets a second. The transitive and the non-transitive form are both in use; a value that is no positive number says nothing.
fn bandwidth(attributes: &Attributes) -> Option<f32> {
    attributes
        .extended_communities
        .iter()
        .find_map(|community| match community {
            [0x00 | 0x40, 0x04, _, _, a, b, c, d] => Some(f32::from_be_bytes([*a, *b, *c, *d])),
            _ => None,
        })
        .filter(|bandwidth| bandwidth.is_finite() && *bandwidth > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_the_bandwidth() {
        let path = |bandwidth: Option<f32>| {
            let community = bandwidth.map(|bandwidth| {
                let [a, b, c, d] = bandwidth.to_be_bytes();
                [0x40, 0x04, 0xfd, 0xe8, a, b, c, d]
            });
            Attributes {
                extended_communities: community.into_iter().collect(),
                ..Attributes::default()
            }
        };
        let counts = Multipath {
            link_bandwidth: true,
            ..Multipath::default()
        };
        for (bandwidths, multipath, want) in [
            (&[Some(1e9), Some(2e9)][..], counts, vec![128, 256]),
            (&[Some(1e9), Some(2e9)], Multipath::default(), vec![1, 1]),
            (&[Some(1e9), None], counts, vec![1, 1]),
            (&[Some(1e9), Some(0.0)], counts, vec![1, 1]),
            (&[Some(1e9), Some(f32::NAN)], counts, vec![1, 1]),
            (&[Some(1e9), Some(f32::INFINITY)], counts, vec![1, 1]),
            (&[Some(1e9), Some(-1e9)], counts, vec![1, 1]),
            (&[Some(1e9), Some(1e9)], counts, vec![1, 1]),
            (&[Some(1e9), Some(1.0)], counts, vec![256, 1]),
            (&[Some(1e9)], counts, vec![1]),
            (&[], counts, vec![]),
        ] {
            let paths: Vec<_> = bandwidths.iter().map(|bandwidth| path(*bandwidth)).collect();
            let got = of(&paths.iter().collect::<Vec<_>>(), multipath);
            assert_eq!(got, want, "{bandwidths:?}");
        }
    }
}
