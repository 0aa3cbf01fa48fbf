//! Columns of text.

use std::io::{self, Write};

use input::text;

/// Writes a table: a line of titles, and one line for each row. No text in it can end its line, or change how the rest
/// of the terminal looks.
///
/// # Errors
///
/// Returns the error of the output.
pub(crate) fn write(out: &mut dyn Write, titles: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let titles: Vec<String> = titles.iter().map(|title| (*title).to_owned()).collect();
    let shown: Vec<Vec<String>> = std::iter::once(&titles)
        .chain(rows)
        .map(|row| row.iter().map(|cell| text::line(cell)).collect())
        .collect();
    let width = |column: usize| {
        let cells = shown.iter().filter_map(|row: &Vec<String>| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    for row in &shown {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_texts_and_cannot_change_the_terminal() {
        let mut out = Vec::new();
        let row = |first: &str, second: &str| vec![first.to_owned(), second.to_owned()];
        let rows = [row("ä\u{1b}[2J", "1"), row("b", "")];
        write(&mut out, &["ID", "COUNT"], &rows).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "ID          COUNT\nä\\u{1b}[2J  1\nb\n");
    }
}
