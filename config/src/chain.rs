use std::error::Error;

/// An error with its causes, in one line: the outermost alone often says nothing. A cause that the text before it tells is left out.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error.to_string();
        if !text.contains(&inner) {
            text.push_str(": ");
            text.push_str(&inner);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Caused(&'static str, #[source] Option<Box<Self>>);

    #[test]
    fn causes_stand_once() {
        for (words, want) in [
            (&["refused"][..], "refused"),
            (
                &["client error", "connect", "refused"],
                "client error: connect: refused",
            ),
            (
                &["connect: refused", "refused", "code 111"],
                "connect: refused: code 111",
            ),
        ] {
            let error = words
                .iter()
                .rev()
                .fold(None, |cause, words| Some(Box::new(Caused(words, cause))));
            assert_eq!(chain(&*error.unwrap()), want);
        }
    }
}
