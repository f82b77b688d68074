//! Geohashes: the earth halved again and again in both directions, places on it, and the stretches of
//! scores in which a search has to look. It follows Redis's choice of cells and their order, as clients
//! see both. It knows no command and no key.

use std::ops::Range;

/// The highest latitude that has a geohash here.
pub(super) const LAT_MAX: f64 = 85.05112878;
const LON_MAX: f64 = 180.0;
/// Halvings of a score in each direction.
const STEPS_MAX: u32 = 26;
const EARTH_RADIUS_M: f64 = 6372797.560856;
/// Half the way around the earth on the map's projection.
const MERCATOR_MAX_M: f64 = 20037726.37;

/// Longitude and latitude in degrees.
pub(super) type Place = (f64, f64);

/// All cells of so many halvings.
#[derive(Clone, Copy)]
struct Grid {
    steps: u32,
    lat_max: f64,
}

/// One cell: its column from the west and its row from the south. The outer edges in the east and the
/// north have a number of their own, beyond the last.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Cell {
    x: u64,
    y: u64,
}

impl Grid {
    fn count(self) -> f64 {
        f64::from(1u32 << self.steps)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "float casts saturate, and places lie within the bounds"
    )]
    fn cell(self, (lon, lat): Place) -> Cell {
        let number = |value: f64, max: f64| ((value + max) / (2.0 * max) * self.count()) as u64;
        Cell { x: number(lon, LON_MAX), y: number(lat, self.lat_max) }
    }

    /// Western and eastern bound of a cell.
    fn longitudes(self, cell: Cell) -> (f64, f64) {
        self.bounds(cell.x, LON_MAX)
    }

    /// Southern and northern bound of a cell.
    fn latitudes(self, cell: Cell) -> (f64, f64) {
        self.bounds(cell.y, self.lat_max)
    }

    fn bounds(self, number: u64, max: f64) -> (f64, f64) {
        let edge = |number: f64| -max + number / self.count() * (2.0 * max);
        (edge(number as f64), edge(number as f64 + 1.0))
    }

    /// The cell so many columns and rows away, around the edges.
    fn beside(self, cell: Cell, (right, up): (i64, i64)) -> Cell {
        let last = (1u64 << self.steps) - 1;
        // What does not move keeps its number, even one beyond the last.
        let moved = |number: u64, by: i64| {
            if by == 0 { number } else { number.wrapping_add_signed(by) & last }
        };
        Cell { x: moved(cell.x, right), y: moved(cell.y, up) }
    }

    /// The scores of the places in a cell.
    fn scores(self, cell: Cell) -> Range<f64> {
        let low = interleaved(cell);
        let shift = 2 * (STEPS_MAX - self.steps);
        (low << shift) as f64..((low + 1) << shift) as f64
    }
}

/// The finest grid, whose cells are scores.
const FINE: Grid = Grid { steps: STEPS_MAX, lat_max: LAT_MAX };

/// Rows and columns bit by bit in turn.
fn interleaved(cell: Cell) -> u64 {
    (0..=STEPS_MAX)
        .fold(0, |bits, i| bits | (cell.y >> i & 1) << (2 * i) | (cell.x >> i & 1) << (2 * i + 1))
}

/// The score of a place.
pub(super) fn score_of(place: Place) -> f64 {
    interleaved(FINE.cell(place)) as f64
}

/// The bits of a place where latitudes reach the poles, as geohash texts want them.
pub(super) fn bits_to_the_poles(place: Place) -> u64 {
    interleaved(Grid { steps: STEPS_MAX, lat_max: 90.0 }.cell(place))
}

/// A score as a whole number; what no GEOADD wrote wraps as it does on Redis's usual processors.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "float casts saturate, and both signs mean their bits"
)]
pub(super) fn bits_of(score: f64) -> u64 {
    const SIGN: f64 = 9_223_372_036_854_775_808.0;
    if score < SIGN {
        (score as i64).cast_unsigned()
    } else if score < 2.0 * SIGN {
        score as u64
    } else {
        0
    }
}

/// The middle of the cell that a score names. The outer edges have cells of their own.
pub(super) fn place_of(score: f64) -> Place {
    let bits = bits_of(score);
    let half =
        |shift: u32| (0..32).fold(0u64, |number, i| number | (bits >> (2 * i + shift) & 1) << i);
    let cell = Cell { x: half(1), y: half(0) };
    let middle = |(low, high): (f64, f64), max: f64| ((low + high) / 2.0).clamp(-max, max);
    (middle(FINE.longitudes(cell), LON_MAX), middle(FINE.latitudes(cell), LAT_MAX))
}

fn lat_distance_m(a: f64, b: f64) -> f64 {
    EARTH_RADIUS_M * (b.to_radians() - a.to_radians()).abs()
}

/// Metres between two places on a sphere.
pub(super) fn distance_m(a: Place, b: Place) -> f64 {
    let v = ((b.0.to_radians() - a.0.to_radians()) / 2.0).sin();
    if v == 0.0 {
        return lat_distance_m(a.1, b.1);
    }
    let (la, lb) = (a.1.to_radians(), b.1.to_radians());
    let u = ((lb - la) / 2.0).sin();
    2.0 * EARTH_RADIUS_M * (u * u + la.cos() * lb.cos() * v * v).sqrt().asin()
}

/// What a search covers, in metres.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// All within this distance.
    Circle(f64),
    /// All within a box of this width and height.
    Box(f64, f64),
}

impl Shape {
    /// The distance of a place from the centre, if it lies within.
    pub(super) fn distance_within(self, center: Place, at: Place) -> Option<f64> {
        let far = distance_m(center, at);
        let within = match self {
            Shape::Circle(radius) => far <= radius,
            Shape::Box(width, height) => {
                distance_m((center.0, at.1), at) <= width / 2.0
                    && lat_distance_m(center.1, at.1) <= height / 2.0
            }
        };
        Some(far).filter(|_| within)
    }

    /// Half the width and half the height.
    fn halves(self) -> (f64, f64) {
        match self {
            Shape::Circle(radius) => (radius, radius),
            Shape::Box(width, height) => (width / 2.0, height / 2.0),
        }
    }

    /// How far it reaches from its centre.
    fn reach(self) -> f64 {
        match self {
            Shape::Circle(radius) => radius,
            Shape::Box(width, height) => (width / 2.0).hypot(height / 2.0),
        }
    }

    /// The scores of at most nine cells that together cover the shape, in the order in which Redis looks
    /// at them.
    pub(super) fn stretches(self, center: Place) -> Vec<Range<f64>> {
        let around = Around::new(self, center);
        let mut grid = Grid { steps: steps_for(self.reach(), center.1), lat_max: LAT_MAX };
        if grid.steps > 1 && !around.is_within_neighbours(grid, grid.cell(center)) {
            grid.steps -= 1;
        }
        let middle = grid.cell(center);
        let mut last = None;
        let mut stretches = Vec::with_capacity(DIRECTIONS.len());
        for direction in DIRECTIONS {
            if grid.steps >= 2 && around.ends_before(grid, middle, direction) {
                continue;
            }
            // Around a small grid the same neighbour is met from both sides.
            let cell = grid.beside(middle, direction);
            if last != Some(cell) {
                stretches.push(grid.scores(cell));
                last = Some(cell);
            }
        }
        stretches
    }
}

/// Columns and rows from the middle cell, in the order of the search.
const DIRECTIONS: [(i64, i64); 9] =
    [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)];

/// The degrees that a shape covers. Circles of latitude shrink towards the poles, so the side nearer to
/// one decides how many degrees its width is.
struct Around {
    west: f64,
    south: f64,
    east: f64,
    north: f64,
}

impl Around {
    fn new(shape: Shape, (lon, lat): Place) -> Around {
        let (width, height) = shape.halves();
        let up = (height / EARTH_RADIUS_M).to_degrees();
        let polar = if lat < 0.0 { lat - up } else { lat + up };
        let aside = (width / EARTH_RADIUS_M / polar.to_radians().cos()).to_degrees();
        Around { west: lon - aside, south: lat - up, east: lon + aside, north: lat + up }
    }

    /// Whether the middle cell's four neighbours reach as far as the shape does.
    fn is_within_neighbours(&self, grid: Grid, middle: Cell) -> bool {
        let beside = |direction| grid.beside(middle, direction);
        grid.latitudes(beside((0, 1))).1 >= self.north
            && grid.latitudes(beside((0, -1))).0 <= self.south
            && grid.longitudes(beside((1, 0))).1 >= self.east
            && grid.longitudes(beside((-1, 0))).0 <= self.west
    }

    /// Whether the shape does not leave the middle cell in this direction.
    fn ends_before(&self, grid: Grid, middle: Cell, (right, up): (i64, i64)) -> bool {
        let ((west, east), (south, north)) = (grid.longitudes(middle), grid.latitudes(middle));
        (up < 0 && south < self.south)
            || (up > 0 && north > self.north)
            || (right < 0 && west < self.west)
            || (right > 0 && east > self.east)
    }
}

/// Halvings after which a cell is still about as large as the shape.
fn steps_for(reach_m: f64, lat: f64) -> u32 {
    if reach_m == 0.0 {
        return STEPS_MAX;
    }
    let mut reach = reach_m;
    let mut steps = 1;
    while reach < MERCATOR_MAX_M && steps < 2 * STEPS_MAX {
        reach *= 2.0;
        steps += 1;
    }
    // Two fewer make sure that most shapes fit; towards the poles cells are narrow.
    let fewer = 2 + u32::from(lat.abs() > 66.0) + u32::from(lat.abs() > 80.0);
    steps.saturating_sub(fewer).clamp(1, STEPS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place() -> impl Strategy<Value = Place> {
        (-180.0..180.0f64, -85.0..85.0f64)
    }

    proptest! {
        /// A place lies within its score's cell, at most a metre from the middle.
        #[test]
        fn scores_name_places(at in place()) {
            prop_assert!(distance_m(at, place_of(score_of(at))) < 1.0);
        }

        /// The stretches hold every place of a shape that crosses neither the date line nor the polar
        /// regions, where Redis's way loses some.
        #[test]
        fn stretches_cover_their_shape(
            center in (-120.0..120.0f64, -60.0..60.0f64),
            step in (-1.0..1.0f64, -1.0..1.0f64),
            reach in 1.0..1_000_000.0f64,
            is_box in any::<bool>(),
        ) {
            let shape = if is_box { Shape::Box(reach, reach * 2.0) } else { Shape::Circle(reach) };
            let degrees = (reach / EARTH_RADIUS_M).to_degrees() * 2.0;
            let at = place_of(score_of((center.0 + step.0 * degrees, center.1 + step.1 * degrees)));
            let score = score_of(at);
            if shape.distance_within(center, at).is_some() {
                prop_assert!(shape.stretches(center).iter().any(|part| part.contains(&score)));
            }
        }

        /// No score is in two stretches, so nothing is found twice, except where the grid is so small that
        /// the search goes around the earth.
        #[test]
        fn stretches_do_not_overlap(center in place(), reach in 1.0..2_000_000.0f64) {
            let parts = Shape::Circle(reach).stretches(center);
            for (at, one) in parts.iter().enumerate() {
                for other in parts.iter().skip(at + 1) {
                    prop_assert!(one.end <= other.start || other.end <= one.start);
                }
            }
        }
    }
}
