use super::*;

const NOW: i64 = 1_000 * DAY_MS + 9 * HOUR_MS + 1;
const SEALED: i64 = 995 * DAY_MS;

fn directory(builds: &[(i64, &str, u64)], places: &[&str]) -> Directory {
    let build = |(day, place, upto): &(i64, &str, u64)| {
        ((day * DAY_MS, (*place).to_owned()), Build { number: *upto + 100, upto: *upto })
    };
    Directory {
        places: places.iter().map(|place| (*place).to_owned()).collect(),
        builds: builds.iter().map(build).collect(),
    }
}

fn range(from_ms: i64, to_ms: i64) -> Range {
    Range { from_ms, to_ms }
}

fn piece(from_ms: i64, to_ms: i64, rows: Rows) -> Piece {
    Piece { range: range(from_ms, to_ms), rows }
}

/// Every millisecond is in exactly one of: a rollup, or a piece of all rows.
fn assert_whole(cover: &Cover, of: Range) {
    let all = cover.pieces.iter().filter(|piece| piece.rows == Rows::All).map(|piece| piece.range);
    let mut parts: Vec<Range> = all.chain(cover.days.iter().chain(&cover.hours).copied()).collect();
    parts.sort_by_key(|part| part.from_ms);
    assert_eq!(parts.first().map(|part| part.from_ms), Some(of.from_ms), "{cover:?}");
    assert_eq!(parts.last().map(|part| part.to_ms), Some(of.to_ms), "{cover:?}");
    assert!(parts.windows(2).all(|pair| pair[0].to_ms == pair[1].from_ms), "{cover:?}");
}

/// One of every shape.
pub fn covers() -> [Cover; 3] {
    let of = range(997 * DAY_MS - 1, NOW);
    let builds = directory(&[(998, "a", 6), (999, "a", 7)], &["a", "b"]);
    [
        Cover::rows(of),
        Cover::of(of, Grain::Days, &builds, SEALED),
        Cover::of(of, Grain::Hours, &builds, SEALED),
    ]
}

#[test]
fn whole_days_and_hours_come_from_rollups_and_their_ends_from_rows() {
    let of = range(997 * DAY_MS + 5 * HOUR_MS - 1, NOW);
    let directory = directory(&[(997, "a", 5), (998, "a", 6), (999, "a", 7), (1_000, "a", 8)], &["a"]);
    let cover = Cover::of(of, Grain::Days, &directory, SEALED);
    assert_whole(&cover, of);
    assert_eq!(cover.days, [range(998 * DAY_MS, 1_000 * DAY_MS)]);
    let hours = [
        range(997 * DAY_MS + 5 * HOUR_MS, 998 * DAY_MS),
        range(1_000 * DAY_MS, 1_000 * DAY_MS + 9 * HOUR_MS),
    ];
    assert_eq!(cover.hours, hours);
    assert_eq!(cover.builds.last(), Some(&(1_000 * DAY_MS, 108)));
    let pieces = [
        piece(of.from_ms, of.from_ms + 1, Rows::All),
        piece(hours[0].from_ms, hours[0].to_ms, Rows::Above(5)),
        piece(998 * DAY_MS, 999 * DAY_MS, Rows::Above(6)),
        piece(999 * DAY_MS, 1_000 * DAY_MS, Rows::Above(7)),
        piece(hours[1].from_ms, hours[1].to_ms, Rows::Above(8)),
        piece(hours[1].to_ms, NOW, Rows::All),
    ];
    assert_eq!(cover.pieces, pieces);
    let hours = Cover::of(of, Grain::Hours, &directory, SEALED);
    assert_eq!((hours.days.len(), hours.hours.len()), (0, 1), "one range of hours");
    assert_whole(&hours, of);
}

#[test]
fn what_no_build_covers_is_read_from_rows() {
    let of = range(994 * DAY_MS, 1_000 * DAY_MS);
    let cover = Cover::of(
        of,
        Grain::Days,
        &directory(&[(994, "a", 5), (996, "a", 5), (997, "a", 5)], &["a"]),
        SEALED,
    );
    assert_whole(&cover, of);
    let rows: Vec<_> = cover.pieces.iter().map(|piece| (piece.range.from_ms / DAY_MS, piece.rows)).collect();
    let above = Rows::Above(5);
    assert_eq!(
        rows,
        [(995, Rows::All), (996, above), (998, Rows::All)],
        "nothing comes for day 994 any more"
    );
    assert_eq!(cover.pieces[1].range.to_ms, 998 * DAY_MS, "days of one intent are read at once");
    for (of, directory) in [
        (of, Directory::default()),
        (of, directory(&[], &["a"])),
        (range(5, HOUR_MS + 4), directory(&[(0, "a", 5)], &["a"])),
    ] {
        assert_eq!(Cover::of(of, Grain::Days, &directory, 0), Cover::rows(of));
    }
}

#[test]
fn of_a_tenant_that_moved_one_places_rollups_are_taken_and_the_others_rows() {
    let of = range(997 * DAY_MS, 999 * DAY_MS);
    let builds = [(997, "a", 5), (998, "a", 5), (998, "b", 9)];
    let cover = Cover::of(of, Grain::Days, &directory(&builds, &["a", "b"]), SEALED);
    assert_eq!(cover.place.as_deref(), Some("a"));
    let pieces = [piece(of.from_ms, of.to_ms, Rows::Elsewhere), piece(of.from_ms, of.to_ms, Rows::Above(5))];
    assert_eq!(cover.pieces, pieces);
}

#[test]
fn buckets_that_cut_hours_are_counted_from_rows() {
    assert_eq!(Grain::of(&[0, DAY_MS, 5 * DAY_MS]), Some(Grain::Days));
    assert_eq!(Grain::of(&[23 * HOUR_MS, 47 * HOUR_MS]), Some(Grain::Hours));
    assert_eq!(Grain::of(&[HOUR_MS / 2, DAY_MS]), None);
}
