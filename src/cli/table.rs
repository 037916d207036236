use std::fmt::Write;

/// Rows of text in aligned columns, two spaces between them.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column heads.
    pub(super) fn new(heads: &[&str]) -> Self {
        Self {
            rows: vec![heads.iter().map(ToString::to_string).collect()],
        }
    }

    /// Adds a row; an empty cell prints as `-`.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(
            cells
                .into_iter()
                .map(|cell| {
                    if cell.is_empty() {
                        "-".into()
                    } else {
                        printable(&cell)
                    }
                })
                .collect(),
        );
    }

    /// Whether it has no row below the heads.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.len() <= 1
    }

    /// Appends the table to `out`, each line behind `indent` spaces.
    pub(super) fn print(&self, indent: usize, out: &mut String) {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = " ".repeat(indent);
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(line, "{cell:<width$}  ");
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
}

/// The text with control characters made visible, so that no name from outside can steer a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            if c.is_control() {
                c.escape_default().collect::<Vec<_>>()
            } else {
                vec![c]
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligns_and_hides_control_characters() {
        let mut table = Table::new(&["NAME", "STATE"]);
        assert!(table.is_empty());
        table.row(["node-1".into(), "up".into()]);
        table.row(["x\u{1b}[2J".into(), String::new()]);
        let mut out = String::new();
        table.print(2, &mut out);
        assert_eq!(out, "  NAME        STATE\n  node-1      up\n  x\\u{1b}[2J  -\n");
    }
}
