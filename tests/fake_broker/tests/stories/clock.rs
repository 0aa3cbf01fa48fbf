//! Changes of the broker's wall clock, and missing ticks.

use std::time::{Duration, Instant};

use fake_broker::{ClientSpec, ClientState, SUCCESS, alone};
use testbed::tenant::{DEVICE, PASSWORD};

use super::{Scene, credentials, login};

const DAYS: i64 = 400 * 86_400;

#[test]
fn ticks_continue_after_clock_changes() {
    alone(|| {
        // 2.1 ticks when the clock is past the time that the last tick asked for, and answers at a tick.
        let mut scene = Scene::live(credentials);
        for (i, seconds) in [2, 0, -5, 0, 3600, 0, -3600, 0, DAYS, 0, -DAYS]
            .into_iter()
            .enumerate()
        {
            scene.broker.tick();
            scene.broker.set_clock(seconds);
            let spec = ClientSpec::new(format!("c{i}"))
                .username(DEVICE)
                .password(PASSWORD);
            scene.connected(&spec);
        }
    });
}

#[test]
fn no_login_waits_for_a_late_tick() {
    alone(|| {
        let mut scene = Scene::live(credentials);
        let ticked = Instant::now();
        while ticked.elapsed() < Duration::from_millis(1100) {
            std::thread::sleep(Duration::from_millis(10));
        }
        // Now it is a 2.1 that does not accept a delayed answer.
        let spec = login("a");
        let client = scene.broker.client(&spec);
        assert_eq!(scene.broker.basic_auth(client), SUCCESS);
        // The next tick is on time again.
        scene.broker.tick();
        let client = scene.connected(&login("b"));
        assert_eq!(scene.broker.state(client), ClientState::Connected);
    });
}
