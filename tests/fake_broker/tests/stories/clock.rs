//! The broker's wall clock is set, and ticks that do not come.

use std::time::{Duration, Instant};

use fake_broker::{SUCCESS, Spec, State, alone};
use testbed::tenant::{DEVICE, PASSWORD};

use super::{Scene, credentials};

const DAYS: i64 = 400 * 86_400;

#[test]
fn ticks_go_on_whatever_the_clock_says() {
    alone(|| {
        // 2.1 ticks when the clock is past what the last tick asked for, and answers at a tick.
        let mut scene = Scene::live(credentials);
        for (i, seconds) in [2, 0, -5, 0, 3600, 0, -3600, 0, DAYS, 0, -DAYS]
            .into_iter()
            .enumerate()
        {
            scene.broker.tick();
            scene.broker.set_clock(seconds);
            let spec = Spec::new(format!("c{i}"))
                .username(DEVICE)
                .password(PASSWORD);
            scene.connected(&spec);
        }
    });
}

#[test]
fn nobody_is_kept_waiting_for_a_tick_that_is_late() {
    alone(|| {
        let mut scene = Scene::live(credentials);
        let ticked = Instant::now();
        while ticked.elapsed() < Duration::from_millis(1100) {
            std::thread::sleep(Duration::from_millis(10));
        }
        // It is a 2.1 that does not take a later answer now.
        let spec = Spec::new("a").username(DEVICE).password(PASSWORD);
        let client = scene.broker.client(&spec);
        assert_eq!(scene.broker.basic_auth(client), SUCCESS);
        // The next tick is on time again.
        scene.broker.tick();
        let client = scene.connected(&Spec::new("b").username(DEVICE).password(PASSWORD));
        assert_eq!(scene.broker.state(client), State::Connected);
    });
}
