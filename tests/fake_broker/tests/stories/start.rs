//! The start: the interface version, and options with which the plugin does not start.

use fake_broker::{Event, INVAL, InitOptions, alone, plugin_threads};
use testbed::tenant::Tenant;

use super::{broker, offline, options, scratch};

#[test]
fn it_chooses_interface_5_if_offered() {
    alone(|| {
        let broker = broker();
        assert_eq!(broker.version(Some(&[5, 4, 3, 2])), 5);
        assert_eq!(broker.version(Some(&[5])), 5);
        assert_eq!(broker.version(Some(&[7, 6, 5])), 5);
        assert_eq!(broker.version(Some(&[4, 3, 2])), -1);
        assert_eq!(broker.version(Some(&[6])), -1);
        assert_eq!(broker.version(Some(&[])), -1);
        assert_eq!(broker.version(None), -1);
        assert_eq!(broker.version_of_nothing(4), -1);
        assert_eq!(broker.version_of_nothing(-1), -1);
    });
}

#[test]
fn it_registers_each_callback_once() {
    alone(|| {
        let (tenant, scratch, mut broker) = (Tenant::start(), scratch(), broker());
        broker.init(&offline(&tenant, &scratch)).expect("it starts");
        for event in Event::all(broker.release()) {
            // One for each control topic.
            let times = if *event == Event::Control { 2 } else { 1 };
            assert_eq!(broker.registered(*event), times, "{event:?}");
        }
    });
}

#[test]
fn without_arguments_it_does_not_start() {
    alone(|| {
        let mut broker = broker();
        for (userdata, options, count) in [
            (false, false, 0),
            (false, true, 1),
            (true, false, 0),
            (true, false, 5),
            (true, false, -1),
            (true, true, -1),
            (true, true, 0),
            (true, true, 1),
        ] {
            assert_eq!(
                broker.init_raw(userdata, options, count),
                INVAL,
                "{userdata} {options} {count}"
            );
        }
        assert_eq!(broker.registered(Event::BasicAuth), 0);
        assert_eq!(broker.lines_with("option domain is missing"), 5);
        assert_eq!(broker.lines_with("there is no such option"), 1);
    });
}

#[test]
fn an_invalid_option_prevents_the_start_and_names_the_fix() {
    alone(|| {
        let (tenant, mut broker) = (Tenant::start(), broker());
        for (name, value, line) in [
            ("audiance", "x", "did you mean audience?"),
            ("timeout", "0", "whole seconds from 1 to 60"),
            ("jwks_file", "/nonexistent", "cannot be read"),
            ("domain", "again", "set twice"),
        ] {
            broker.forget_log();
            let options = match line {
                "set twice" => options(&tenant).with(name, value),
                _ => options(&tenant).instead(name, value),
            };
            assert_eq!(broker.init(&options), Err(INVAL));
            assert_eq!(broker.lines_with(line), 1, "{:#?}", broker.log());
            assert_eq!(broker.lines_with("the broker does not start"), 1);
            assert_eq!(broker.registered(Event::BasicAuth), 0);
            assert_eq!(plugin_threads(), 0);
        }
    });
}

#[test]
fn options_that_are_not_utf_8_are_named_but_not_shown() {
    alone(|| {
        let mut broker = broker();
        let secret = InitOptions::new().with("client_secret", *b"hush-hush\xff");
        assert_eq!(broker.init(&secret), Err(INVAL));
        assert_eq!(
            broker.lines_with("option client_secret: its value is not UTF-8 text"),
            1
        );
        assert_eq!(broker.lines_with("hush"), 0, "{:#?}", broker.log());
        assert_eq!(
            broker.init(&InitOptions::new().with(*b"\xfe", "x")),
            Err(INVAL)
        );
        assert_eq!(broker.lines_with("an option's name is not UTF-8 text"), 1);
    });
}
