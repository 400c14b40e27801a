//! Charts as SVG.

use anyhow::anyhow;
use plotters::{
    chart::{ChartBuilder, SeriesLabelPosition},
    coord::combinators::{BindKeyPoints, IntoLogRange},
    drawing::IntoDrawingArea,
    element::{Circle, PathElement, Rectangle, Text},
    prelude::SVGBackend,
    series::LineSeries,
    style::{BLACK, Color, Palette, Palette99, WHITE},
};

use super::{Chart, markdown::number};

const WIDTH: u32 = 720;
const LINES_HEIGHT: u32 = 400;
const BAR_HEIGHT: u32 = 34;
const NAMES_WIDTH: u32 = 170;
/// Room for titles and axes.
const FRAME: u32 = 60;
/// A line of the legend.
const LEGEND_LINE: u32 = 17;
const FONT: &str = "sans-serif";

/// Draws a chart.
pub(crate) fn svg(chart: &Chart) -> anyhow::Result<String> {
    match chart {
        Chart::Bars { title, unit, bars, .. } => draw_bars(&format!("{title}, {unit}"), bars),
        Chart::Lines { title, x, y, series, .. } => lines(title, x, y, series),
    }
}

fn draw_bars(title: &str, bars: &[(String, f64)]) -> anyhow::Result<String> {
    let mut svg = String::new();
    let rows = bars.len().max(1);
    let largest = bars.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
    {
        let size = (WIDTH, FRAME + BAR_HEIGHT * u32::try_from(rows)?);
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, (FONT, 18))
            .margin(10)
            .y_label_area_size(NAMES_WIDTH)
            // Room for the number behind the longest bar.
            .build_cartesian_2d(0.0..largest * 1.15, 0.0..rows as f64)
            .map_err(failed)?;
        let named = |y: &f64| {
            let place = rows as f64 - 0.5 - y;
            if place.fract().abs() < 1e-9 {
                bars.get(place as usize).map_or(String::new(), |(name, _)| name.clone())
            } else {
                String::new()
            }
        };
        chart
            .configure_mesh()
            .disable_mesh()
            .disable_x_axis()
            .disable_y_axis()
            .y_labels(0)
            .y_label_formatter(&named)
            .draw()
            .map_err(failed)?;
        for (place, (name, value)) in bars.iter().enumerate() {
            let low = (rows - place - 1) as f64;
            let colour = Palette99::pick(place);
            let bar = Rectangle::new([(0.0, low + 0.15), (*value, low + 0.85)], colour.filled());
            let label = Text::new(number(*value), (*value + largest * 0.01, low + 0.65), (FONT, 15));
            chart.draw_series([bar]).map_err(failed)?;
            chart.draw_series([label]).map_err(failed)?;
            let (left, middle) = chart.plotting_area().map_coordinate(&(0.0, low + 0.65));
            let width = i32::try_from(area.estimate_text_size(name, &(FONT, 15).into()).map_err(failed)?.0)?;
            area.draw(&Text::new(name.clone(), (left - width - 8, middle), (FONT, 15))).map_err(failed)?;
        }
        area.present().map_err(failed)?;
    }
    Ok(svg)
}

fn lines(title: &str, x: &str, y: &str, series: &[(String, Vec<(f64, f64)>)]) -> anyhow::Result<String> {
    let points = || series.iter().flat_map(|(_, points)| points);
    let low = points().map(|point| point.0).fold(f64::INFINITY, f64::min);
    let high = points().map(|point| point.0).fold(0.0, f64::max);
    let top = points().map(|point| point.1).fold(f64::MIN_POSITIVE, f64::max);
    if !(low > 0.0 && low < high) {
        return Err(anyhow!("the chart {title:?} needs two places on its axis"));
    }
    // Room for the legend above the lines, which it would cover otherwise.
    let legend = FRAME / 2 + LEGEND_LINE * u32::try_from(series.len())?;
    let top = top / (1.0 - f64::from(legend) / f64::from(LINES_HEIGHT - FRAME));
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, LINES_HEIGHT)).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, (FONT, 18))
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d((low..high).log_scale().with_key_points(points().map(|point| point.0).collect()), 0.0..top)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .max_light_lines(0)
            .x_desc(x)
            .y_desc(y)
            .x_label_formatter(&|value| number(value.round()))
            .y_label_formatter(&|value| number(*value))
            .draw()
            .map_err(failed)?;
        for (place, (name, points)) in series.iter().enumerate() {
            let colour = Palette99::pick(place).to_rgba();
            chart
                .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))
                .map_err(failed)?
                .label(name)
                .legend(move |(left, middle)| PathElement::new([(left, middle), (left + 16, middle)], colour.stroke_width(2)));
            chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled()))).map_err(failed)?;
        }
        if series.len() > 1 {
            let legend = chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperLeft)
                .background_style(WHITE.mix(0.8))
                .border_style(BLACK.mix(0.3))
                .draw();
            legend.map_err(failed)?;
        }
        area.present().map_err(failed)?;
    }
    Ok(svg)
}

/// The drawing library's errors borrow from what is drawn.
fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_drawn_for_each_name() {
        let bars = vec![("ours".to_owned(), 20.0), ("theirs".to_owned(), 160.0)];
        let svg = svg(&Chart::Bars { file: String::new(), title: "CPU".to_owned(), unit: "µs".to_owned(), bars }).unwrap();
        for text in ["CPU, µs", "ours", "theirs", ">\n160\n<"] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
    }

    #[test]
    fn a_line_is_drawn_for_each_series() {
        let series = vec![("a".to_owned(), vec![(16.0, 1.0), (256.0, 2.0)]), ("b".to_owned(), vec![(16.0, 3.0), (256.0, 4.0)])];
        let chart =
            |series| Chart::Lines { file: String::new(), title: "p99".into(), x: "connections".into(), y: "ms".into(), series };
        assert!(svg(&chart(series)).unwrap().matches("<polyline").count() >= 2);
        assert!(svg(&chart(vec![("a".to_owned(), vec![(16.0, 1.0)])])).is_err());
    }

    #[test]
    fn the_legend_covers_no_line() {
        let series = ["a", "b", "c", "d", "e"].map(|name| (name.to_owned(), vec![(16.0, 4.0), (100.0, 3.9), (256.0, 1.0)]));
        let title = String::new;
        let chart = Chart::Lines { file: title(), title: title(), x: title(), y: title(), series: series.to_vec() };
        let svg = svg(&chart).unwrap();
        let numbers = |element: &str, name: &str| -> Vec<i32> {
            let elements = svg.split('<').filter(|text| text.starts_with(element));
            elements
                .map(|text| text.split(&format!(" {name}=\"")).nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
                .collect()
        };
        let bottoms = numbers("rect", "y").into_iter().zip(numbers("rect", "height")).map(|(y, height)| y + height);
        // The first one is the chart's background.
        let legend = bottoms.skip(1).max().unwrap();
        assert!(numbers("circle", "cy").into_iter().all(|y| y > legend), "{legend}: {svg}");
    }
}
