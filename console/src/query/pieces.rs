//! Rows of a range that are read as they are.

use clickhouse::Query;
use clickhouse::query::Millis;

use crate::api::range::Range;

/// Which rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// Every one.
    All,
    /// Those of other places than the one whose rollups are taken.
    Elsewhere,
    /// Those of that place with a higher intent.
    Above(u64),
}

/// Some rows of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Their times.
    pub range: Range,
    /// Which of them.
    pub rows: Rows,
}

/// The condition of the piece at `i`; its moments and numbers are bound by [`bind`], as is the place.
pub fn condition(i: usize, piece: &Piece) -> String {
    let time = format!("time >= {{f{i}:DateTime64(3, 'UTC')}} AND time < {{t{i}:DateTime64(3, 'UTC')}}");
    match piece.rows {
        Rows::All => time,
        Rows::Elsewhere => format!("{time} AND place != {{place:String}}"),
        Rows::Above(_) => format!("{time} AND place = {{place:String}} AND intent > {{v{i}:UInt64}}"),
    }
}

/// Binds what the conditions name.
pub fn bind(query: Query, pieces: &[Piece]) -> Query {
    pieces.iter().enumerate().fold(query, |query, (i, piece)| {
        let query = query
            .bind(&format!("f{i}"), Millis(piece.range.from_ms))
            .bind(&format!("t{i}"), Millis(piece.range.to_ms));
        match piece.rows {
            Rows::Above(upto) => query.bind(&format!("v{i}"), upto),
            Rows::All | Rows::Elsewhere => query,
        }
    })
}
