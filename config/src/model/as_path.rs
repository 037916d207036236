use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;

use super::Invalid;

/// A regular expression over the AS numbers of an AS_PATH, nearest first: `^65001 .* 65010$`.
///
/// Each token is a whole number, never its digits. Matching takes time in proportion to path and expression, whatever both are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AsPathPattern {
    text: Arc<str>,
    program: Vec<Step>,
}

/// One step of the machine; numbers are steps to go on with.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Step {
    /// Takes one place of the path.
    Take(Class),
    /// Goes on at both.
    Split(usize, usize),
    /// Goes on there.
    Jump(usize),
    /// Goes on where the path has begun, or has ended.
    Begin,
    End,
    Found,
}

/// Which numbers a place may hold.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Class {
    ranges: Vec<RangeInclusive<u32>>,
    not: bool,
}

impl Class {
    fn any() -> Self {
        Self {
            ranges: vec![0..=u32::MAX],
            not: false,
        }
    }

    fn holds(&self, number: u32) -> bool {
        self.ranges.iter().any(|range| range.contains(&number)) != self.not
    }
}

/// Steps that one expression may have.
const LONGEST: usize = 1024;
/// Parentheses inside parentheses.
const DEEPEST: usize = 32;

const HELP: &str = "write AS numbers, `.` for any, `64512-65534`, `[65001 65002]`, `( | )`, `*` `+` `?` `{2,5}`, `^` and `$`: \"^65001 .* 65010$\"";

impl AsPathPattern {
    /// Whether a path fits. Each place holds one number, or those of a set, of which one has to fit.
    pub fn fits<'p>(&self, path: impl IntoIterator<Item = &'p [u32]>) -> bool {
        let mut now = BTreeSet::new();
        let mut places = path.into_iter().peekable();
        let mut begun = true;
        loop {
            // An expression may begin anywhere.
            let ends = places.peek().is_none();
            now.insert(0);
            if self.follow(&mut now, begun, ends) {
                return true;
            }
            let Some(numbers) = places.next() else {
                return false;
            };
            begun = false;
            now = now
                .into_iter()
                .filter(|at| {
                    let step = self.program.get(*at);
                    matches!(step, Some(Step::Take(class)) if numbers.iter().any(|number| class.holds(*number)))
                })
                .map(|at| at + 1)
                .collect();
        }
    }

    /// Adds every step that can be reached without taking a place; whether the end is among them.
    fn follow(&self, now: &mut BTreeSet<usize>, begun: bool, ends: bool) -> bool {
        let mut open: Vec<usize> = now.iter().copied().collect();
        let mut found = false;
        while let Some(at) = open.pop() {
            let mut go = |next: usize| {
                if now.insert(next) {
                    open.push(next);
                }
            };
            match self.program.get(at) {
                Some(Step::Split(one, other)) => {
                    go(*one);
                    go(*other);
                }
                Some(Step::Jump(next)) => go(*next),
                Some(Step::Begin) if begun => go(at + 1),
                Some(Step::End) if ends => go(at + 1),
                Some(Step::Found) => found = true,
                Some(Step::Take(_) | Step::Begin | Step::End) | None => {}
            }
        }
        found
    }
}

impl fmt::Display for AsPathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for AsPathPattern {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let mut reader = Reader { rest: text, depth: 0 };
        let mut program = reader.either()?;
        if !reader.rest.is_empty() {
            return Err(wrong(format!("nothing can be made of `{}`", reader.rest)));
        }
        program.push(Step::Found);
        Ok(Self {
            text: text.into(),
            program,
        })
    }
}

fn wrong(what: impl Into<String>) -> Invalid {
    Invalid::new(what.into(), HELP)
}

struct Reader<'t> {
    rest: &'t str,
    depth: usize,
}

impl Reader<'_> {
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start();
        self.rest.chars().next()
    }

    fn take(&mut self, wanted: char) -> bool {
        let there = self.peek() == Some(wanted);
        if there {
            self.rest = self.rest.get(wanted.len_utf8()..).unwrap_or_default();
        }
        there
    }

    fn number(&mut self) -> Result<Option<u32>, Invalid> {
        self.peek();
        let digits = self.rest.chars().take_while(char::is_ascii_digit).count();
        if digits == 0 {
            return Ok(None);
        }
        let (number, rest) = self.rest.split_at(digits);
        self.rest = rest;
        let read = number.parse();
        read.map(Some)
            .map_err(|_| wrong(format!("{number} is no AS number")))
    }

    /// A number or a range.
    fn range(&mut self) -> Result<Option<RangeInclusive<u32>>, Invalid> {
        let Some(first) = self.number()? else {
            return Ok(None);
        };
        if !self.take('-') {
            return Ok(Some(first..=first));
        }
        match self.number()? {
            Some(last) if last >= first => Ok(Some(first..=last)),
            _ => Err(wrong(format!("the range that begins with {first} has no end"))),
        }
    }

    /// Alternatives. The program's own steps begin at 0; whoever takes it in moves it.
    fn either(&mut self) -> Result<Vec<Step>, Invalid> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(wrong("too many parentheses inside one another"));
        }
        let mut one = self.sequence()?;
        while self.take('|') {
            let other = self.sequence()?;
            let mut both = vec![Step::Split(1, one.len() + 2)];
            append(&mut both, one);
            both.push(Step::Jump(both.len() + 1 + other.len()));
            append(&mut both, other);
            one = limited(both)?;
        }
        self.depth -= 1;
        Ok(one)
    }

    fn sequence(&mut self) -> Result<Vec<Step>, Invalid> {
        let mut steps = Vec::new();
        loop {
            let atom = match self.peek() {
                None | Some('|' | ')') => return Ok(steps),
                Some('^') => {
                    self.take('^');
                    vec![Step::Begin]
                }
                Some('$') => {
                    self.take('$');
                    vec![Step::End]
                }
                Some('.') => {
                    self.take('.');
                    vec![Step::Take(Class::any())]
                }
                Some('(') => {
                    self.take('(');
                    let inside = self.either()?;
                    if !self.take(')') {
                        return Err(wrong("a parenthesis is not closed"));
                    }
                    inside
                }
                Some('[') => {
                    self.take('[');
                    vec![Step::Take(self.class()?)]
                }
                Some(_) => match self.range()? {
                    Some(range) => vec![Step::Take(Class {
                        ranges: vec![range],
                        not: false,
                    })],
                    None => return Err(wrong(format!("nothing can be made of `{}`", self.rest))),
                },
            };
            let atom = self.repeated(atom)?;
            append(&mut steps, atom);
            steps = limited(steps)?;
        }
    }

    fn class(&mut self) -> Result<Class, Invalid> {
        let not = self.take('^');
        let mut ranges = Vec::new();
        while let Some(range) = self.range()? {
            ranges.push(range);
        }
        if ranges.is_empty() || !self.take(']') {
            return Err(wrong(
                "a list in brackets holds numbers and ranges, with spaces between",
            ));
        }
        Ok(Class { ranges, not })
    }

    fn repeated(&mut self, atom: Vec<Step>) -> Result<Vec<Step>, Invalid> {
        let (least, most) = match self.peek() {
            Some('*') if self.take('*') => (0, None),
            Some('+') if self.take('+') => (1, None),
            Some('?') if self.take('?') => (0, Some(1)),
            Some('{') if self.take('{') => self.times()?,
            _ => return Ok(atom),
        };
        let mut steps = Vec::new();
        for _ in 0..least {
            append(&mut steps, atom.clone());
            steps = limited(steps)?;
        }
        match most {
            None => {
                let begin = steps.len();
                steps.push(Step::Split(begin + 1, begin + 2 + atom.len()));
                append(&mut steps, atom);
                steps.push(Step::Jump(begin));
            }
            Some(most) => {
                for _ in least..most {
                    let begin = steps.len();
                    steps.push(Step::Split(begin + 1, begin + 1 + atom.len()));
                    append(&mut steps, atom.clone());
                    steps = limited(steps)?;
                }
            }
        }
        limited(steps)
    }

    /// `{2}`, `{2,}`, `{2,5}`.
    fn times(&mut self) -> Result<(u32, Option<u32>), Invalid> {
        let least = self.number()?;
        let most = if self.take(',') { self.number()? } else { least };
        match (least, most, self.take('}')) {
            (Some(least), most, true)
                if least <= 255 && most.is_none_or(|most| (least..=255).contains(&most)) =>
            {
                Ok((least, most))
            }
            _ => Err(wrong("write how many times as {2}, {2,} or {2,5}, up to 255")),
        }
    }
}

/// Puts `more` behind, with its steps moved.
fn append(steps: &mut Vec<Step>, more: Vec<Step>) {
    let by = steps.len();
    steps.extend(more.into_iter().map(|step| match step {
        Step::Split(one, other) => Step::Split(one + by, other + by),
        Step::Jump(next) => Step::Jump(next + by),
        other => other,
    }));
}

fn limited(steps: Vec<Step>) -> Result<Vec<Step>, Invalid> {
    if steps.len() > LONGEST {
        return Err(wrong("the expression is too long"));
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, path: &[u32]) -> bool {
        let pattern: AsPathPattern = pattern
            .parse()
            .unwrap_or_else(|fault| panic!("{pattern}: {fault:?}"));
        pattern.fits(path.iter().map(std::slice::from_ref))
    }

    #[test]
    fn paths_that_fit_and_paths_that_do_not() {
        for (pattern, path, want) in [
            ("", &[][..], true),
            ("", &[1], true),
            ("^$", &[], true),
            ("^$", &[1], false),
            ("65001", &[1, 65001, 2], true),
            ("6500", &[65001], false),
            ("65001", &[], false),
            ("^65001", &[65001, 2], true),
            ("^65001", &[2, 65001], false),
            ("65001$", &[2, 65001], true),
            ("65001$", &[65001, 2], false),
            ("^65001 .* 3$", &[65001, 7, 8, 3], true),
            ("^65001 .* 3$", &[65001, 3], true),
            ("^65001 .+ 3$", &[65001, 3], false),
            ("^1 2? 3$", &[1, 3], true),
            ("^1 2? 3$", &[1, 2, 3], true),
            ("^1 2? 3$", &[1, 2, 2, 3], false),
            ("^(1|2 3)+$", &[1, 2, 3, 1], true),
            ("^(1|2 3)+$", &[1, 2, 1], false),
            ("^(1|2|3)$", &[3], true),
            ("^1{2,3}$", &[1, 1], true),
            ("^1{2,3}$", &[1], false),
            ("^1{2,3}$", &[1, 1, 1, 1], false),
            ("^1{2}$", &[1, 1], true),
            ("^1{2,}$", &[1, 1, 1, 1, 1], true),
            ("^64512-65534$", &[65000], true),
            ("^64512-65534$", &[65535], false),
            ("^[1 5-7]$", &[6], true),
            ("^[1 5-7]$", &[2], false),
            ("^[^1 5-7]$", &[2], true),
            ("^[^1 5-7]$", &[6], false),
            ("^(.*)*$", &[1, 2, 3], true),
            ("4294967295", &[u32::MAX], true),
        ] {
            assert_eq!(fits(pattern, path), want, "{pattern:?} {path:?}");
        }
    }

    #[test]
    fn of_a_set_one_has_to_fit() {
        let pattern: AsPathPattern = "^1 5$".parse().unwrap();
        assert!(pattern.fits([&[1][..], &[4, 5]]));
        assert!(!pattern.fits([&[1][..], &[4, 6]]));
        assert!(!pattern.fits([&[1][..], &[]]));
    }

    #[test]
    fn what_is_no_expression() {
        for pattern in [
            "a",
            "(",
            ")",
            "(1",
            "1)",
            "[",
            "[]",
            "[1",
            "[a]",
            "*",
            "1-",
            "2-1",
            "4294967296",
            "1{",
            "1{3,2}",
            "1{256}",
            "1{,2}",
            "((1{255}){255}){255}",
        ] {
            assert!(pattern.parse::<AsPathPattern>().is_err(), "{pattern:?}");
        }
        let deep = "(".repeat(10_000) + "1" + &")".repeat(10_000);
        assert!(deep.parse::<AsPathPattern>().is_err());
    }

    #[test]
    fn no_path_takes_long() {
        let path = vec![1; 20_000];
        assert!(!fits("^(1*)*(1*)*(1|1)*2$", &path));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[0-9.^$()\\[\\]{}|*+?, -]{0,40}", path in proptest::collection::vec(0u32..12, 0..8)) {
            if let Ok(pattern) = text.parse::<AsPathPattern>() {
                pattern.fits(path.iter().map(std::slice::from_ref));
            }
        }
    }
}
