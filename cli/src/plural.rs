//! Numbers of things, in words.

/// `1 task`, `2 tasks`.
pub(crate) fn counted(n: u64, one: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{n} {one}{s}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular() {
        let all = [0, 1, 2].map(|n| counted(n, "dead letter"));
        assert_eq!(all, ["0 dead letters", "1 dead letter", "2 dead letters"]);
    }
}
