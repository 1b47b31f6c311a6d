//! What became of a load, tenant by tenant.

use std::fmt;

use super::pool::Totals;

/// A tenant's line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    /// Name of the Tenant.
    pub tenant: String,
    /// Name people read.
    pub display_name: String,
    /// What the pods answered.
    pub totals: Totals,
    /// Events that the dashboard counts; `None` when it was not asked or did not answer.
    pub stored: Option<u64>,
}

/// All lines and their sum.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table(pub Vec<Row>);

impl Table {
    /// The sum of all lines; `stored` only when every line has it.
    pub fn sum(&self) -> Row {
        let mut sum = Row { tenant: format!("{} tenants", self.0.len()), stored: Some(0), ..Row::default() };
        for row in &self.0 {
            sum.totals.add(&row.totals);
            sum.stored = sum.stored.zip(row.stored).map(|(a, b)| a + b);
        }
        sum
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = self.sum();
        let width = self.0.iter().chain([&sum]).map(|row| row.tenant.len()).max().unwrap_or_default().max(6);
        let columns = ["SENT", "ACCEPTED", "LIMITED", "REJECTED", "LOST", "STORED"];
        write!(f, "{:<width$}", "TENANT")?;
        columns.iter().try_for_each(|column| write!(f, "  {column:>9}"))?;
        // Names of every script come last: their width on the screen is not known.
        writeln!(f, "  NAME")?;
        for row in self.0.iter().chain([&sum]) {
            let Totals { sent, accepted, limited, rejected, lost, .. } = &row.totals;
            write!(f, "{:<width$}", row.tenant)?;
            for number in [sent, accepted, limited, rejected, lost] {
                write!(f, "  {number:>9}")?;
            }
            let stored = row.stored.map_or_else(|| "?".to_owned(), |stored| stored.to_string());
            writeln!(f, "  {stored:>9}  {}", row.display_name)?;
        }
        for row in &self.0 {
            for reason in &row.totals.reasons {
                writeln!(f, "rejected for {}: {reason}", row.tenant)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_the_sum_and_what_was_not_read_is_not_summed() {
        let row = |tenant: &str, sent, stored| Row {
            tenant: tenant.to_owned(),
            totals: Totals { sent, accepted: sent, reasons: vec!["bad".to_owned()], ..Totals::default() },
            stored,
            ..Row::default()
        };
        let mut table = Table(vec![row("a", 2, Some(2)), row("b", 3, Some(1))]);
        assert_eq!((table.sum().totals.sent, table.sum().stored), (5, Some(3)));
        let text = table.to_string();
        assert!(text.lines().nth(3).unwrap().starts_with("2 tenants"), "{text}");
        assert!(text.ends_with("rejected for b: bad\n"), "{text}");
        table.0.push(row("c", 1, None));
        assert_eq!(table.sum().stored, None);
    }
}
