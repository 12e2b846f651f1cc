//! The table that is printed, line by line, and how several runs become one figure.

use std::time::Duration;

pub fn begin() {
    row("figure", "dirsyncd", "goal", ("the limit", "which is"));
}

/// `limit`: of this machine in this run, and what it is.
pub fn row(what: &str, figure: &str, goal: &str, limit: (&str, &str)) {
    println!("{what:<70} {figure:>24} {goal:>8} {:>24}  {}", limit.0, limit.1);
}

pub fn note(text: &str) {
    println!("  {text}");
}

pub const NO_LIMIT: (&str, &str) = ("-", "");

pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The median, and the least and the greatest.
pub fn spread(figures: &[f64], digits: usize) -> String {
    let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let most = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{:.digits$} ({least:.digits$} to {most:.digits$})", median(figures.to_vec()))
}

pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

pub fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}
