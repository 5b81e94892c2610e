//! The medians as a picture: a bar for each contestant in each phase, on a scale of powers of ten.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::contestant::Phase;
use super::report::Report;

const SIZE: (u32, u32) = (1080, 480);

/// How much of the width is for the names, where one phase is 1.
const NAMES: f64 = 0.8;

/// Of the contestants, in their order; nobody is told from another by red and green alone.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(86, 86, 86),
    RGBColor(230, 159, 0),
    RGBColor(204, 121, 167),
    RGBColor(0, 158, 115),
    RGBColor(86, 180, 233),
];

/// The picture, as SVG.
pub fn svg(report: &Report) -> Result<String> {
    let mut text = String::new();
    draw(report, &mut text).map_err(|error| anyhow!("draw: {error}"))?;
    Ok(text)
}

fn draw(report: &Report, text: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::with_string(text, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let medians = medians(report);
    let seconds = medians.iter().map(|bar| bar.seconds);
    let (least, most) = seconds.fold((1.0_f64, 1.0_f64), |(least, most), value| {
        (least.min(value), most.max(value))
    });
    let phases = Phase::ALL.len() as f64;
    let mut chart = ChartBuilder::on(&area)
        .caption(caption(report), ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..phases + NAMES, (least / 2.0..most * 2.0).log_scale())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(Phase::ALL.len() * 2 + 4)
        .x_label_formatter(&|x| label(*x))
        .y_desc("seconds, median")
        .y_label_formatter(&|seconds| format!("{seconds}"))
        .draw()?;
    for (index, contestant) in report.contestants.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let own = medians.iter().filter(|bar| bar.contestant == index);
        chart
            .draw_series(own.map(|bar| {
                let corners = [(bar.from, least / 2.0), (bar.to, bar.seconds)];
                Rectangle::new(corners, colour.filled())
            }))?
            .label(contestant.name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 10, y + 5)], colour.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    area.present()?;
    Ok(())
}

/// A bar of the picture.
struct Bar {
    contestant: usize,
    from: f64,
    to: f64,
    seconds: f64,
}

fn medians(report: &Report) -> Vec<Bar> {
    // Each phase is one wide, with room between it and the next.
    let width = 0.8 / report.contestants.len() as f64;
    let mut bars = Vec::new();
    for (place, phase) in Phase::ALL.into_iter().enumerate() {
        for (index, contestant) in report.contestants.iter().enumerate() {
            let from = place as f64 + 0.1 + width * index as f64;
            let summary = report.summary(contestant.name, phase, |taken| taken.seconds);
            bars.extend(summary.map(|summary| Bar {
                contestant: index,
                from,
                to: from + width * 0.9,
                seconds: summary.median,
            }));
        }
    }
    bars
}

/// The name of a phase in the middle of its bars.
fn label(x: f64) -> String {
    let place = x.floor();
    match Phase::ALL.get(place as usize) {
        Some(phase) if (x - place - 0.5).abs() < 0.01 => phase.to_string(),
        _ => String::new(),
    }
}

fn caption(report: &Report) -> String {
    format!(
        "The role {} on {}: {} runs, {} processors, load {} to {}",
        report.role,
        report.release,
        report.runs,
        report.machine.processors,
        report.machine.load,
        report.load_at_the_end
    )
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::sample;
    use super::*;

    #[test]
    fn the_picture_has_a_bar_for_each_median_and_all_names() {
        let picture = svg(&sample()).unwrap();
        assert!(picture.starts_with("<svg"), "{picture}");
        for word in ["wasagent", "shell", "first apply", "nothing to change"] {
            assert!(picture.contains(word), "{word}: {picture}");
        }
        assert_eq!(medians(&sample()).len(), 4);
    }
}
