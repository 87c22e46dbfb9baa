//! The plots: bars of ratios, and the line of scale.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

use super::timed::Row;
use super::{Options, Results, scale};
use crate::workload::Shape;

/// What is above is cut: one bar must not hide the others.
const HIGHEST: f64 = 4.;

/// Room for the legend beside the groups, as a part of a group.
const LEGEND: f64 = 1.5;

/// The plots, and the workloads that each of them shows.
pub const BARS: [(&str, &str, &[&str]); 3] = [
    (
        "small",
        "Small messages: CPU time, best peer = 1",
        &["rtt", "pipe", "pipe1", "flood", "sink", "sink1", "many", "connect"],
    ),
    (
        "large",
        "Large messages: CPU time; idle: memory; best peer = 1",
        &["flood16k", "floodtext1m", "floodutf1m", "sink1m", "bulk", "idle"],
    ),
    (
        "tls",
        "TLS 1.3: CPU time; idletls: memory; best peer = 1",
        &["rtttls", "floodtls", "flood16ktls", "idletls", "connecttls", "connecttlsfull"],
    ),
];

/// A colour for each client.
const COLOURS: [RGBColor; 8] = [
    RGBColor(214, 69, 65),
    RGBColor(240, 150, 90),
    RGBColor(190, 190, 190),
    RGBColor(52, 96, 148),
    RGBColor(96, 150, 190),
    RGBColor(90, 140, 90),
    RGBColor(150, 180, 110),
    RGBColor(140, 110, 160),
];

/// Draws all of them.
pub fn draw(directory: &Path, options: &Options, results: &Results) -> Result<(), Box<dyn Error>> {
    for (name, title, workloads) in BARS {
        let rows: Vec<&Row> = results.rows.iter().filter(|row| workloads.contains(&row.workload.name)).collect();
        bars(&directory.join(format!("{name}.svg")), title, options, &rows)?;
    }
    scale_line(&directory.join("scale.svg"), results)
}

/// A group of bars for each workload, a bar for each client.
fn bars(path: &Path, title: &str, options: &Options, rows: &[&Row]) -> Result<(), Box<dyn Error>> {
    let area = SVGBackend::new(path, (1000, 420)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(40)
        .build_cartesian_2d(0.0..rows.len() as f64 + LEGEND, 0.0..HIGHEST)?;
    let name = |x: &f64| {
        // Labels stand in the middle of the groups.
        let group = x.floor();
        if (x - group - 0.5).abs() < 0.01 {
            rows.get(group as usize).map_or_else(String::new, |row| row.workload.name.to_owned())
        } else {
            String::new()
        }
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .max_light_lines(0)
        .x_labels(rows.len() * 2 + 4)
        .x_label_formatter(&name)
        .y_labels(9)
        .draw()?;
    let width = 0.8 / options.clients.len() as f64;
    for (index, client) in options.clients.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let bars = rows.iter().enumerate().filter_map(|(group, row)| {
            let left = group as f64 + 0.1 + index as f64 * width;
            let top = row.ratio(index)?.min(HIGHEST);
            Some(Rectangle::new([(left, 0.), (left + width * 0.9, top)], colour.filled()))
        });
        chart
            .draw_series(bars)?
            .label(client.name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 10, y + 5)], colour.filled()));
    }
    chart.draw_series(LineSeries::new([(0., 1.), (rows.len() as f64, 1.)], BLACK.stroke_width(1)))?;
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    area.present()?;
    Ok(())
}

/// The cost of a message by the number of connections.
fn scale_line(path: &Path, results: &Results) -> Result<(), Box<dyn Error>> {
    let points = |client: usize| {
        results.scale.iter().filter_map(move |row| {
            let Shape::Many { connections, .. } = row.workload.shape else { return None };
            let report = row.reports[client].as_ref()?;
            Some((connections as f64, report.cpu_ns as f64 / report.messages.max(1) as f64 / 1000.))
        })
    };
    let highest = (0..scale::clients().count()).flat_map(points).map(|(_, cost)| cost).fold(1., f64::max);
    let area = SVGBackend::new(path, (1000, 320)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("CPU time for a message (us) by open connections of one session", ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(40)
        .build_cartesian_2d((1.0..60_000.0).log_scale(), 0.0..highest * 1.2)?;
    chart.configure_mesh().max_light_lines(0).x_label_formatter(&|x| format!("{x:.0}")).draw()?;
    for (index, client) in scale::clients().enumerate() {
        let colour = COLOURS[index];
        chart
            .draw_series(LineSeries::new(points(index), colour.stroke_width(2)).point_size(3))?
            .label(client.name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 10, y + 5)], colour.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    area.present()?;
    Ok(())
}
