//! The state of the plugin in one broker: its instances, and what they share.
//!
//! The broker loads the plugin once for each `plugin` line. Lines with the same options share one instance, and with
//! it the keys. The broker is given a number for its instance as the userdata of every callback, never a pointer.

use std::{ffi::c_void, time::Duration};

use crate::{
    cell::BrokerCell,
    codes::Generation,
    event::EventClient,
    guard, heap,
    host::Broker,
    messages::{LoadError, Notice},
    signals, time,
};
use auth::{
    client::ClientKey,
    clock::{Deadline, Unix},
    config::{
        Config,
        local_users::{self, LocalUsers},
        mosquitto_conf::MosquittoConf,
        on_disk::OnDisk,
    },
    engine::{Common, Engine},
    jwt::jwks_cache::FetchSchedule,
    log::Log,
    secret::{Fingerprint, Fingerprinter},
};

/// How often a tick does what only depends on the time, in nanoseconds.
const WORK_NANOS: u64 = 50_000_000;

/// After so many nanoseconds without a tick, it is uncertain when the next one comes.
const LATE_NANOS: u64 = 1_000_000_000;

/// How long after the last client has gone, or a policy file was read, free memory is returned to the system.
const SETTLED: Duration = Duration::from_secs(2);

static STATE: BrokerCell<Option<PluginState>> = BrokerCell::new(None);

/// Everything that only the broker's thread touches.
struct PluginState {
    common: Common,
    /// Each lies at the index that its userdata names. An index is used once, so a stale userdata names no instance.
    instances: Vec<Option<Instance>>,
    fingerprints: Fingerprinter,
}

/// One configuration of the plugin, and the state that belongs to it.
pub struct Instance {
    pub engine: Engine,
    pub log: Log,
    /// The broker's configuration files at the start, if they can be found.
    pub on_disk: Option<OnDisk>,
    /// Whether the broker ticks. 2.0.11 with `per_listener_settings true` does not.
    pub ticks: bool,
    /// Whether RELOAD has come since the last tick. Where two `plugin` lines share this instance, it comes twice.
    pub reloaded: bool,
    /// Whether a client has come or gone since the last tick with something to do.
    pub has_news: bool,
    pub message_time: time::MessageTime,
    /// When a tick last had something to do, in nanoseconds of the monotonic clock.
    last_work: u64,
    /// When to return free memory to the system: after a fleet has gone, or a policy file was read.
    trim: Option<Deadline>,
    /// The fingerprint of its options, which may hold a secret.
    options: Fingerprint,
    /// How many `plugin` lines have it.
    references: usize,
}

/// Runs `body` on the instance that `userdata` names, with what all instances share. Returns `None` if there is none.
///
/// The state is open meanwhile, so `body` must not call a function of the broker that calls back.
#[inline]
pub fn with<R>(
    broker: &Broker,
    userdata: *mut c_void,
    body: impl FnOnce(&mut Instance, &mut Common) -> R,
) -> Option<R> {
    let mut state = STATE.open(broker);
    let state = state.as_mut()?;
    let place = (userdata as usize).checked_sub(1)?;
    let instance = state.instances.get_mut(place)?.as_mut()?;
    Some(body(instance, &mut state.common))
}

/// Runs `body` on all instances, with what they share. Returns `None` if there is none. The state is open meanwhile.
pub fn with_all<R>(
    broker: &Broker,
    body: impl FnOnce(&mut [&mut Engine], &mut Common) -> R,
) -> Option<R> {
    let mut state = STATE.open(broker);
    let state = state.as_mut()?;
    let instances = state.instances.iter_mut().flatten();
    let mut engines: Vec<_> = instances.map(|instance| &mut instance.engine).collect();
    Some(body(&mut engines, &mut state.common))
}

/// Returns the userdata of the instance that admitted a client, if the client is the one that signed in.
pub fn admitted_by(
    broker: &Broker,
    key: ClientKey,
    client: &EventClient<'_>,
) -> Option<*mut c_void> {
    let mut state = STATE.open(broker);
    let state = state.as_mut()?;
    let id = state.common.instance_of(key, client)?;
    let mut instances = state.instances.iter();
    let is_meant = |instance: &Option<Instance>| {
        instance
            .as_ref()
            .is_some_and(|instance| instance.engine.id() == id)
    };
    instances.position(is_meant).map(userdata)
}

/// Returns the userdata of an instance with these options, and whether it was there before. A new one is not started.
///
/// # Errors
///
/// Returns an error if the options cannot be used.
pub fn obtain(
    broker: &Broker,
    options: Vec<(String, String)>,
) -> Result<(*mut c_void, bool), LoadError> {
    let mut state = STATE.open(broker);
    let state = match &mut *state {
        Some(state) => state,
        none => none.insert(PluginState {
            common: Common::default(),
            instances: Vec::new(),
            fingerprints: Fingerprinter::new().map_err(|why| why.to_string())?,
        }),
    };
    let print = state.fingerprints.of(format!("{options:?}").as_bytes());
    for (place, instance) in state.instances.iter_mut().enumerate() {
        if let Some(instance) = instance
            && instance.options == print
        {
            instance.references += 1;
            return Ok((userdata(place), true));
        }
    }
    let is_first = state.instances.iter().all(Option::is_none);
    let instance = Instance::new(options, print, &mut state.common)?;
    // 2.0 takes no second callback where that cannot work. 2.1 takes it, and how it is used depends on its
    // configuration.
    if !is_first && broker.generation() == Generation::V2_1 {
        instance.tell(&Notice::OtherOptions);
    }
    state.instances.push(Some(instance));
    Ok((userdata(state.instances.len() - 1), false))
}

/// Whether there is only one instance.
pub fn is_alone(broker: &Broker) -> bool {
    let state = STATE.open(broker);
    state
        .as_ref()
        .is_some_and(|state| state.instances.iter().flatten().count() == 1)
}

/// Returns the userdata for an index: a number in the form of a pointer. NULL names no instance.
fn userdata(place: usize) -> *mut c_void {
    std::ptr::without_provenance_mut(place + 1)
}

/// Ends the use of an instance by one `plugin` line. The last one stops it.
pub fn release(broker: &Broker, userdata: *mut c_void) {
    let mut state = STATE.open(broker);
    let Some(all) = state.as_mut() else { return };
    let Some(place) = (userdata as usize).checked_sub(1) else {
        return;
    };
    let PluginState {
        common, instances, ..
    } = all;
    let Some(slot) = instances.get_mut(place) else {
        return;
    };
    let Some(mut instance) = slot.take() else {
        return;
    };
    instance.references -= 1;
    if instance.references > 0 {
        *slot = Some(instance);
        return;
    }
    let is_last = instances.iter().all(Option::is_none);
    if is_last {
        common.stop();
    }
    instance.engine.stop();
    instance.engine.forget_pending(common);
    if is_last {
        *state = None;
    }
}

/// Stops the threads of all instances, because the broker exits and may not clean up. Callbacks may still come.
pub fn stop_all(broker: &Broker) {
    if let Some(state) = &mut *STATE.open(broker) {
        state.common.stop();
        for instance in state.instances.iter_mut().flatten() {
            instance.engine.stop();
        }
    }
}

/// Follows the wall clock if it was set. All instances follow at once, because what they share is moved once.
pub fn follow_clock(broker: &Broker) {
    let by = time::follow();
    if by == 0 {
        return;
    }
    if let Some(PluginState {
        common, instances, ..
    }) = &mut *STATE.open(broker)
    {
        common.clock_was_set(by);
        for (place, instance) in instances.iter_mut().flatten().enumerate() {
            if place == 0 {
                instance.engine.report_clock(by);
            }
            instance.engine.clock_was_set(by);
            instance.refresh_message_time(broker, time::Coarse::now());
        }
    }
}

/// Writes the log lines that wait. With `log_dest topic` the broker publishes each as a message and checks that. So
/// call this with the state closed, and never during the delivery of a message.
pub fn write_log(broker: &Broker, userdata: *mut c_void) {
    let lines = with(broker, userdata, |instance, _| instance.log.take());
    for (level, line) in lines.unwrap_or_default() {
        broker.log(level, &line);
    }
    write_faults(broker);
}

/// Writes the log lines about faults.
pub fn write_faults(broker: &Broker) {
    for (level, line) in guard::FAULTS.take() {
        broker.log(level, &line);
    }
}

impl Instance {
    /// Returns the users that the broker has for the listeners of this instance.
    pub fn local_users(&self, conf: &MosquittoConf) -> LocalUsers {
        let ours = self.on_disk.as_ref();
        local_users::of(conf, ours.and_then(|on_disk| on_disk.instance(conf)))
    }

    /// Writes a line into the log.
    pub fn tell(&self, notice: &Notice) {
        self.log.line(notice.level(), notice.to_string());
    }

    /// Returns free memory to the system in a moment.
    pub fn trim_soon(&mut self) {
        self.trim = Some(Deadline::after(SETTLED));
    }

    fn new(
        options: Vec<(String, String)>,
        print: Fingerprint,
        common: &mut Common,
    ) -> Result<Self, String> {
        let log = Log::default();
        let on_disk = Fingerprinter::new()
            .ok()
            .and_then(|prints| OnDisk::find(&options, prints));
        let config = Config::read(options).map_err(|e| e.to_string())?;
        let schedule = FetchSchedule::default();
        let engine = Engine::new(config, schedule, log.clone(), signals::spawn, common)
            .map_err(|why| why.to_string())?;
        Ok(Self {
            engine,
            log,
            on_disk,
            ticks: false,
            reloaded: false,
            has_news: true,
            message_time: time::MessageTime::default(),
            last_work: time::Coarse::now().nanos(),
            // The memory in which a policy file was read is free again.
            trim: Some(Deadline::after(SETTLED)),
            options: print,
            references: 1,
        })
    }

    /// Keeps the time for the next messages, on a 2.0 that ticks. This is not done at every tick, because a busy broker
    /// ticks after every message. So the time may be [`WORK_NANOS`] old.
    pub fn refresh_message_time(&mut self, broker: &Broker, now: time::Coarse) {
        if broker.generation() == Generation::V2_0 && self.ticks {
            self.message_time.set(now.unix());
        }
    }

    /// Returns whether a tick has anything to do. A busy 2.0 broker ticks after every message, so this is part of the
    /// cost of a message.
    pub fn has_work(&mut self, now: time::Coarse) -> bool {
        let nanos = now.nanos();
        let due = nanos >= self.last_work + WORK_NANOS
            || self.has_news
            || self.engine.has_finished_jobs()
            || self.engine.has_local_commands()
            || self.engine.is_rereading()
            || !self.log.is_empty()
            || !guard::FAULTS.is_empty();
        if due {
            self.last_work = nanos;
            self.has_news = false;
        }
        due
    }

    /// Returns whether the broker has not ticked for so long that it is uncertain when it will. Then no answer may
    /// depend on a tick.
    pub fn ticks_are_late(&self) -> bool {
        time::Coarse::now().nanos() > self.last_work + LATE_NANOS
    }

    /// Takes into account that the broker could not tick because the plugin waited.
    pub fn exclude_wait(&mut self, since: time::Coarse) {
        self.last_work += time::Coarse::now().nanos() - since.nanos();
    }

    /// Forgets clients that have gone. The last clients of a fleet go a while after the first, so the memory is
    /// returned once, after the last.
    pub fn reap(&mut self, common: &mut Common, now: Unix) {
        if self.engine.reap(common, now) {
            self.trim = Some(Deadline::after(SETTLED));
        } else if self.trim.is_some_and(Deadline::has_passed) {
            self.trim = None;
            heap::give_back();
        }
    }
}
