use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Serialize;

use super::Invalid;

/// Which error statuses a page is for; the more exact one counts.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum PageFor {
    /// `503`: from 400 to 599.
    Status(u16),
    /// `5xx`: 4 or 5.
    Class(u8),
}

impl FromStr for PageFor {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match (text, text.parse()) {
            ("4xx", _) => Ok(Self::Class(4)),
            ("5xx", _) => Ok(Self::Class(5)),
            (_, Ok(status @ 400..=599)) if text.len() == 3 => Ok(Self::Status(status)),
            _ => Err(Invalid::new(
                format!("`{}` is not a status of an error", text.escape_debug()),
                "write one from 400 to 599, 4xx or 5xx",
            )),
        }
    }
}

impl fmt::Display for PageFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "{status}"),
            Self::Class(class) => write!(f, "{class}xx"),
        }
    }
}

/// What stands in an answer instead of the box's own words.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ErrorPage {
    /// Media type.
    pub content_type: &'static str,
    /// At most [`ErrorPages::MOST_BYTES`].
    pub body: Arc<[u8]>,
}

/// The pages of a route, or of the box. In views only the statuses stand.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ErrorPages(BTreeMap<PageFor, ErrorPage>);

impl ErrorPages {
    /// Octets of a page at most.
    pub const MOST_BYTES: usize = 64 * 1024;

    /// Reads files named `STATUS.TYPE`. What cannot be read is told with the name of its file and a remedy; the others count.
    pub fn read<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> (Self, Vec<String>) {
        let (mut pages, mut faults) = (Self::default(), Vec::new());
        for (name, body) in files {
            if let Err(why) = pages.add(name, body) {
                faults.push(format!("{}: {why}", name.escape_debug()));
            }
        }
        (pages, faults)
    }

    /// Adds the page of a file named `STATUS.TYPE`.
    ///
    /// # Errors
    /// A name that says nothing of the kind, a page that is too large, and a second one for the same statuses.
    pub fn add(&mut self, name: &str, body: &[u8]) -> Result<(), Invalid> {
        let (of, page) = page(name, body)?;
        match self.0.entry(of) {
            Entry::Occupied(_) => Err(Invalid::new(
                format!("there is another page for {of}"),
                "keep one of them",
            )),
            Entry::Vacant(place) => {
                place.insert(page);
                Ok(())
            }
        }
    }

    /// The page for a status.
    pub fn of(&self, status: u16) -> Option<&ErrorPage> {
        let class = u8::try_from(status / 100).ok().map(PageFor::Class);
        self.0
            .get(&PageFor::Status(status))
            .or_else(|| self.0.get(&class?))
    }
}

fn page(name: &str, body: &[u8]) -> Result<(PageFor, ErrorPage), Invalid> {
    let (of, suffix) = name.split_once('.').unwrap_or((name, ""));
    let of = of.parse::<PageFor>()?;
    let content_type = match suffix {
        "html" => "text/html; charset=utf-8",
        "json" => "application/json",
        "txt" => "text/plain; charset=utf-8",
        _ => {
            return Err(Invalid::new(
                "its type is not known",
                "end the name with .html, .json or .txt",
            ));
        }
    };
    if body.len() > ErrorPages::MOST_BYTES {
        return Err(Invalid::new(
            format!("it has {} octets", body.len()),
            "write at most 65536",
        ));
    }
    Ok((
        of,
        ErrorPage {
            content_type,
            body: body.into(),
        },
    ))
}

impl Serialize for ErrorPages {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.0.keys().map(ToString::to_string))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_pages() {
        let large = vec![b'x'; ErrorPages::MOST_BYTES + 1];
        let files = [
            ("404.json", &b"{}"[..]),
            ("4xx.txt", b"no"),
            ("503.html", b"<p>"),
            ("503.json", b"two"),
            ("500.html", &large),
            ("500.md", b"x"),
            ("502", b"x"),
            ("600.html", b"x"),
            ("0404.html", b"x"),
            ("3xx.html", b"x"),
            ("logo.png", b"x"),
        ];
        let (pages, faults) = ErrorPages::read(files);
        let faulty: Vec<&str> = faults
            .iter()
            .map(|fault| fault.split(':').next().unwrap())
            .collect();
        assert_eq!(
            faulty,
            [
                "503.json",
                "500.html",
                "500.md",
                "502",
                "600.html",
                "0404.html",
                "3xx.html",
                "logo.png"
            ],
        );
        for (status, want) in [
            (404, Some("{}")),
            (403, Some("no")),
            (503, Some("<p>")),
            (500, None),
            (200, None),
        ] {
            let page = pages.of(status).map(|page| &*page.body);
            assert_eq!(page, want.map(str::as_bytes), "{status}");
        }
        assert_eq!(serde_json::to_string(&pages).unwrap(), r#"["404","503","4xx"]"#);
    }
}
