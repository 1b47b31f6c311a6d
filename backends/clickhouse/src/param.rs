//! Values of query parameters, in the text form in which ClickHouse reads them.

use event::{EventHash, TenantNumber, UserKey};

/// A value that can be bound to `{name:Type}`. The type is written in the query; the server refuses a value that is not
/// of it. What is bound never becomes part of the statement, so no value can change it.
pub trait Param {
    /// The value as the server reads it from a parameter.
    fn param(&self) -> String;

    /// The value as an element of an array.
    fn element(&self) -> String {
        self.param()
    }
}

macro_rules! displayed {
    ($($type:ty),*) => {
        $(impl Param for $type {
            fn param(&self) -> String {
                self.to_string()
            }
        })*
    };
}
displayed!(u8, u16, u32, u64, u128, i8, i16, i32, i64, i128, bool, TenantNumber);

impl Param for EventHash {
    fn param(&self) -> String {
        self.0.to_string()
    }
}

impl Param for UserKey {
    fn param(&self) -> String {
        self.0.to_string()
    }
}

impl Param for str {
    fn param(&self) -> String {
        escaped(self)
    }

    fn element(&self) -> String {
        // Once for the array's own syntax; the array as a whole is escaped no further.
        format!("'{}'", escaped(self).replace('\'', "\\'"))
    }
}

impl Param for String {
    fn param(&self) -> String {
        self.as_str().param()
    }

    fn element(&self) -> String {
        self.as_str().element()
    }
}

impl<T: Param> Param for [T] {
    fn param(&self) -> String {
        let elements: Vec<String> = self.iter().map(Param::element).collect();
        format!("[{}]", elements.join(","))
    }
}

impl<T: Param> Param for Vec<T> {
    fn param(&self) -> String {
        self.as_slice().param()
    }
}

impl<T: Param + ?Sized> Param for &T {
    fn param(&self) -> String {
        (**self).param()
    }

    fn element(&self) -> String {
        (**self).element()
    }
}

/// A moment, for parameters of type `DateTime64(3, 'UTC')`; before 1970 counts as 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Millis(
    /// Unix milliseconds.
    pub i64,
);

impl Param for Millis {
    fn param(&self) -> String {
        let value = self.0.max(0);
        format!("{}.{:03}", value / 1000, value % 1000)
    }
}

/// The escapes of tab-separated text, in which parameters are read.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\0' => out.push_str("\\0"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_the_server_reads_them() {
        assert_eq!(u128::MAX.param(), "340282366920938463463374607431768211455");
        assert_eq!("a\\b\tc'\n".param(), "a\\\\b\\tc'\\n");
        assert_eq!(vec!["it's", "b\\"].param(), "['it\\'s','b\\\\']");
        assert_eq!([1u64, 2].as_slice().param(), "[1,2]");
        assert_eq!(Millis(1_700_000_000_007).param(), "1700000000.007");
    }
}
