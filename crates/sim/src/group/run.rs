//! What happens in a group, and what has to hold.

use anyhow::{Context, Result, bail, ensure};
use broker::epochs::NoCopy;
use broker::{Master, Step};
use protocol::bodies::TopicTable;
use protocol::requests::*;
use protocol::{codes, fastjson};
use replication::ha::SlaveLink;
use store::Batch;

use super::*;
use crate::broker::{QUEUES, TOPIC, create_request};

/// Steps with faults, and how long a healed group may take to be one again, in ms.
const STEPS: usize = 1200;
const CONVERGENCE_MS: i64 = 120_000;

impl World {
    pub(super) fn whole_history(&mut self) -> Result<()> {
        self.open(0)?;
        self.ask(CLIENT, 0, &create_request(TOPIC), &[])?.context("the topic is not made")?;
        for _ in 0..STEPS {
            self.step()?;
            self.fault()?;
        }
        (self.blocked, self.quiet) = (Default::default(), true);
        (0..BROKERS).for_each(|node| self.nodes[node].disk.crash_after(u64::MAX));
        self.until("APART", Self::is_one)?;
        let lost: Vec<_> = self.must.iter().filter(|id| self.nodes.iter().any(|node| !node.has.contains_key(*id))).collect();
        ensure!(lost.is_empty(), "LOST: messages {lost:?}");
        (0..BROKERS).try_for_each(|node| self.delete_temporary(node))?;
        self.until("KEPT", |world| {
            world.brokers().iter().all(|broker| broker.store.queues().iter().all(|queue| queue.topic != TEMPORARY))
        })?;
        self.consume_all()
    }

    fn brokers(&self) -> Vec<Arc<Broker>> {
        self.nodes.iter().filter_map(|node| node.broker.clone()).collect()
    }

    /// Goes on without faults until something holds.
    fn until(&mut self, otherwise: &str, holds: impl Fn(&Self) -> bool) -> Result<()> {
        let until = self.now + CONVERGENCE_MS;
        while !holds(self) {
            let state = |node: &Node| {
                let broker = node.broker.as_ref();
                broker.map(|b| (b.is_slave(), b.store.visible(), b.store.written_and_persisted(), b.master().address, b.epochs()))
            };
            let states = self.nodes.iter().map(state);
            ensure!(
                self.now < until,
                "{otherwise}: {:#?}, {:?}",
                states.collect::<Vec<_>>(),
                self.pending.iter().map(|p| (p.about, p.node)).collect::<Vec<_>>()
            );
            self.step()?;
        }
        Ok(())
    }

    /// One master, which takes messages, and everybody has all of its log.
    fn is_one(&self) -> bool {
        let brokers = self.brokers();
        let ends = |broker: &Arc<Broker>| (broker.store.visible(), broker.store.written_and_persisted().0);
        brokers.len() == BROKERS
            && brokers.iter().filter(|broker| !broker.is_slave()).count() == 1
            && brokers.iter().all(|broker| ends(broker) == ends(&brokers[0]) && broker.epochs() == brokers[0].epochs())
            && self.pending.is_empty()
            && brokers.iter().any(|broker| broker.store.append(&mut Batch::default(), self.now).is_ok())
    }

    fn step(&mut self) -> Result<()> {
        self.now += self.rng.i64(5..150);
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let event = entry.remove();
            event(self)?;
        }
        for node in 0..BROKERS {
            if self.nodes[node].disk.crashed() {
                self.crash(node)?;
            } else if self.nodes[node].broker.is_none() && self.nodes[node].opens_at <= self.now {
                self.open(node)?;
            }
            self.tend(node)?;
        }
        for nth in (0..self.streams.len()).rev() {
            let mut stream = self.streams.swap_remove(nth);
            if self.pump(&mut stream)? {
                self.streams.push(stream);
            } else {
                self.broken(&stream);
            }
        }
        for _ in 0..self.rng.usize(0..3).min(if self.quiet { 0 } else { 3 }) {
            self.client()?;
        }
        self.namesrvs.iter().for_each(|namesrv| namesrv.tick(self.now));
        (0..BROKERS).try_for_each(|node| self.scan(node))?;
        self.answers()?;
        self.check()
    }

    fn broken(&mut self, stream: &Stream) {
        if let Some(master) = self.open_life(stream.master) {
            master.slave_left(stream.id, "the connection broke", self.now);
        }
        if let Some(slave) = self.open_life(stream.slave) {
            slave.master_lost();
        }
    }

    /// What the threads and tasks of a broker's process do.
    fn tend(&mut self, node: usize) -> Result<()> {
        let Some(broker) = self.nodes[node].broker.clone() else { return Ok(()) };
        let (now, own) = (self.now + self.nodes[node].skew, (node, self.nodes[node].life));
        broker.tick(now);
        if self.rng.u8(..) < 90 {
            drop(broker.sync(now));
        }
        if self.rng.u8(..) < 25 {
            broker.tend_store(now);
        }
        if self.nodes[node].registers_at <= self.now {
            self.nodes[node].registers_at = self.now + self.rng.i64(3000..10_000);
            self.register(own, &broker)?;
        }
        if broker.is_slave() && self.nodes[node].connects_at <= self.now && !self.streams.iter().any(|s| s.slave == own) {
            self.nodes[node].connects_at = self.now + 1000;
            self.connect(own, &broker)?;
        }
        let ahead = match broker.take_delivered(&mut self.nodes[node].delivered) {
            Ok(ahead) => ahead,
            Err(_) if self.nodes[node].disk.crashed() => return Ok(()),
            Err(error) => bail!("broker {node}: {error}"),
        };
        let Some(master) = broker.master().address.as_deref().and_then(node_at).filter(|_| broker.is_slave()) else {
            return Ok(());
        };
        let epochs = if ahead.is_empty() { None } else { self.epochs_of(node, master)? };
        for Committed { topic, group, queue, offset } in
            ahead.iter().filter(|_| epochs.is_some() && broker.copies(epochs.as_ref()))
        {
            let request = UpdateConsumerOffset { consumer_group: group, topic, queue_id: *queue, commit_offset: *offset };
            self.call(node, master, &request, &[])?;
        }
        let of = (master, broker.epochs());
        if self.nodes[node].asks_at <= self.now || self.nodes[node].asked.as_ref() != Some(&of) {
            self.nodes[node].asks_at = self.now + 10_000;
            self.nodes[node].asked = Some(of.clone());
            self.ask_tables(own, of)?;
        }
        Ok(())
    }

    fn reopen(&mut self, node: usize) -> Result<()> {
        let Some(broker) = self.nodes[node].broker.clone() else { return Ok(()) };
        if let Err(error) = broker.close(self.now + self.nodes[node].skew) {
            ensure!(self.nodes[node].disk.crashed(), "broker {node} does not close: {error}");
            return self.crash(node);
        }
        self.close(node);
        self.nodes[node].opens_at = self.now + self.rng.i64(1..500);
        Ok(())
    }

    /// Looks for a newer master and for who has the same number, and registers, as `registration` does.
    fn register(&mut self, own: (usize, u64), broker: &Broker) -> Result<()> {
        if broker.is_slave() {
            let taken: BTreeMap<i64, String> = self.others(own.0)?.into_iter().flatten().collect();
            let other = taken.get(&broker.config().broker_id).and_then(|at| node_at(at));
            if other.is_some_and(|other| self.reaches(own.0, other) && self.nodes[other].broker.is_some()) {
                let taken = taken.into_keys().collect();
                self.later(300, move |world| Ok(world.open_life(own).map_or(Ok(()), |slave| slave.take_free_number(&taken))?));
            }
        } else if let Some(other) = self.other_master(own.0)? {
            self.later(300, move |world| match world.open_life(own) {
                Some(broker) if broker.meet(other.as_ref()) => world.reopen(own.0),
                _ => Ok(()),
            });
        }
        self.later(400, move |world| {
            let Some(broker) = world.open_life(own) else { return Ok(()) };
            let (config, address, body) = (broker.config(), broker.address(), broker.registration());
            let request = RegisterBroker {
                broker_name: "b",
                broker_addr: &address,
                cluster_name: "c",
                ha_server_addr: &broker.ha_address(),
                broker_id: config.broker_id,
                compressed: Some(false),
                body_crc32: Some(record::crc(&body) as i32),
                ..RegisterBroker::default()
            };
            for namesrv in NAMESRVS {
                let Some(answer) = world.call(own.0, namesrv, &request, &body)? else { continue };
                let found = answer.field("masterAddr").ok().zip(answer.field("haServerAddr").ok());
                if let Some((address, ha_address)) = found.filter(|_| broker.is_slave()) {
                    broker.master_found(Master { address: Some(address.into()), ha_address: Some(ha_address.into()) });
                }
            }
            Ok(())
        });
        Ok(())
    }

    /// Connects a slave with its master's HA port, and asks for the epochs behind that.
    fn connect(&mut self, own: (usize, u64), broker: &Broker) -> Result<()> {
        let found = broker.master();
        let Some(master) = found.ha_address.as_deref().and_then(node_at).filter(|master| self.reaches(own.0, *master)) else {
            return Ok(());
        };
        let Some(serves) = self.nodes[master].broker.clone() else { return Ok(()) };
        drop(broker.sync(self.now + self.nodes[own.0].skew));
        self.next += 1;
        let id = self.next;
        let Ok(serving) = serves.serve(id, address(own.0).to_string(), self.now + self.nodes[master].skew) else { return Ok(()) };
        let (down, up, master) = (VecDeque::new(), VecDeque::new(), (master, self.nodes[master].life));
        self.streams.push(Stream { id, master, slave: own, serving, link: None, down, up });
        self.later(500, move |world| {
            let Some(asked) = found.address.as_deref().and_then(node_at) else { return Ok(()) };
            let epochs = world.epochs_of(own.0, asked)?;
            world.later(500, move |world| {
                let Some(broker) = world.open_life(own) else { return Ok(()) };
                let now = world.now + world.nodes[own.0].skew;
                let Some(at) = world.streams.iter().position(|stream| stream.id == id) else { return Ok(()) };
                match epochs.map(|epochs| broker.follow(epochs)) {
                    Some(Ok(())) => world.streams[at].link = Some(SlaveLink::new(broker.store.copied_from(), now)),
                    refused => {
                        let stream = world.streams.swap_remove(at);
                        world.broken(&stream);
                        if let Some(Err(NoCopy::Beyond { .. })) = refused {
                            return world.reopen(own.0);
                        }
                    }
                }
                Ok(())
            });
            Ok(())
        });
        Ok(())
    }

    /// Has both ends of an HA connection do what they can; `false` where it ends.
    fn pump(&mut self, stream: &mut Stream) -> Result<bool> {
        let (Some(master), Some(slave)) = (self.open_life(stream.master), self.open_life(stream.slave)) else { return Ok(false) };
        if !slave.is_slave() || slave.master().ha_address != Some(master.ha_address()) || self.rng.u16(..) < 60 {
            return Ok(false);
        }
        let (here, there) = (self.now + self.nodes[stream.master.0].skew, self.now + self.nodes[stream.slave.0].skew);
        for _ in 0..4 {
            let Ok(step) = master.next_step(&mut stream.serving, here) else { return Ok(false) };
            let Step::Send(header, slice) = step else { break };
            let bytes = [&header[..], slice.as_ref().map_or(&[], |slice| slice.bytes())].concat();
            let arrives = stream.down.back().map_or(0, |(at, _)| *at).max(self.now + self.rng.i64(1..200));
            stream.down.push_back((arrives, bytes));
        }
        let Some(link) = &mut stream.link else { return Ok(true) };
        while let Some((_, mut bytes)) =
            stream.down.pop_front_if(|(at, _)| *at <= self.now && !self.blocked[stream.master.0][stream.slave.0])
        {
            let rest = bytes.split_off(self.rng.usize(1..=bytes.len()));
            if !rest.is_empty() {
                stream.down.push_front((self.now, rest));
            }
            match slave.take_log(link, &bytes, there) {
                Ok(()) => {}
                Err(error) => {
                    // Epochs were told apart before: no byte that differs ever comes.
                    ensure!(!error.to_string().contains("is another one than"), "DIFFERENT: {error}");
                    tracing::debug!("{} broker {} does not take the log: {error}", self.now, stream.slave.0);
                    return Ok(false);
                }
            }
        }
        if let Some(report) = slave.log_report(link, there) {
            let arrives = stream.up.back().map_or(0, |(at, _)| *at).max(self.now + self.rng.i64(1..200));
            stream.up.push_back((arrives, report.to_vec()));
        }
        if link.wait_until(there, &slave.config().ha_timing()).is_err() {
            return Ok(false);
        }
        while let Some((_, bytes)) =
            stream.up.pop_front_if(|(at, _)| *at <= self.now && !self.blocked[stream.slave.0][stream.master.0])
        {
            if master.reported(&mut stream.serving, &bytes, here).is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Asks for a master's tables and then for its epochs; the answers come when this may be no slave any more.
    fn ask_tables(&mut self, own: (usize, u64), (to, before): (usize, Option<EpochHistory>)) -> Result<()> {
        let tells = self.epochs_of(own.0, to)? == before;
        let Some(below) = self.open_life(own).map(|broker| broker.store.written_and_persisted().0) else { return Ok(()) };
        let Some(topics) = self.call(own.0, to, &GetAllTopicConfig {}, &[])? else { return Ok(()) };
        let table: TopicTable = fastjson::from_slice(&topics.body)?;
        let listed = Listed::new(below, &table);
        let groups = self.call(own.0, to, &GetAllSubscriptionGroup {}, &[])?;
        let (offsets, delays) =
            (self.call(own.0, to, &GetAllConsumerOffset {}, &[])?, self.call(own.0, to, &GetAllDelayOffset {}, &[])?);
        let timers = self.call(own.0, to, &GetTimerCheckPoint {}, &[])?.filter(|answer| answer.code == codes::SUCCESS);
        self.later(4000, move |world| {
            let Some(master) = world.nodes[to].broker.clone() else { return Ok(()) };
            let end = master.store.written_and_persisted().0;
            let epochs = world.epochs_of(own.0, to)?;
            let Some(broker) = world.open_life(own) else { return Ok(()) };
            broker.take_topics(table)?;
            if let Some(answer) = groups {
                broker.take_groups(fastjson::from_slice(&answer.body)?)?;
            }
            let delivered = delays.zip(offsets).filter(|_| tells && epochs.is_some() && epochs == before);
            world.nodes[own.0].delivered = delivered.map(|(delays, offsets)| Delivered {
                epochs,
                listed,
                end,
                offsets: offsets.body,
                delay_offsets: delays.body,
                timers: timers.map(|answer| answer.body),
            });
            Ok(())
        });
        Ok(())
    }

    fn check(&mut self) -> Result<()> {
        for node in 0..BROKERS {
            let Some(broker) = self.nodes[node].broker.clone() else { continue };
            let (written, _) = broker.store.written_and_persisted();
            ensure!(broker.store.visible() <= written, "VISIBLE: {} of {written}", broker.store.visible());
            let grown = std::mem::replace(&mut self.nodes[node].written, written) < written;
            if broker.is_slave() {
                continue;
            }
            let history = broker.epochs().unwrap_or_default();
            let epoch = history.epochs().last().cloned().context("an epoch")?;
            if grown && !self.writers.contains(&(epoch.clone(), node)) {
                let other = self.writers.iter().find(|(known, _)| *known == epoch);
                ensure!(other.is_none(), "WRITERS: {node} and {other:?}");
                self.writers.push((epoch, node));
            }
            let (number, start, master) = history.reign();
            if (number, start, master) > (self.newest.0, self.newest.1, self.newest.2.as_str()) {
                self.newest = (number, start, master.to_owned());
                self.holder = node;
                let Node { has, cut, .. } = &self.nodes[node];
                let sure = self.sync_flush && self.sync_master;
                // Who was cut to follow another one, and is promoted before it has the rest again, never was in sync.
                let had = |id: &&u64| self.copies[*id] & 1 << node != 0 && !cut.contains(*id);
                let lost = self.must.iter().find(|id| sure && had(id) && !has.contains_key(*id));
                ensure!(lost.is_none(), "LOST: message {lost:?}, which {node} had when it was promoted");
                self.must.retain(|id| has.contains_key(id));
            }
            for queue in 0..QUEUES {
                let end = broker.store.find_queue(TOPIC, queue).map_or(0, |queue| queue.max_offset());
                let committed = broker.offsets.committed(TOPIC, "g", queue).unwrap_or(0);
                ensure!(committed <= end, "OFFSET: broker {node} has {committed} of queue {queue}, which ends at {end}");
            }
        }
        (0..BROKERS).flat_map(|one| (0..one).map(move |other| (one, other))).try_for_each(|(one, other)| self.compare(one, other))
    }

    /// Logs are the same as far as their epochs say so.
    fn compare(&mut self, one: usize, other: usize) -> Result<()> {
        let (Some(a), Some(b)) = (self.nodes[one].broker.clone(), self.nodes[other].broker.clone()) else { return Ok(()) };
        let parting = a.epochs().unwrap_or_default().parts_from(&b.epochs().unwrap_or_default()).unwrap_or(u64::MAX);
        let end = a.store.visible().min(b.store.visible()).min(parting);
        let lives = [(one, self.nodes[one].life), (other, self.nodes[other].life)];
        let from = self.compared.entry(lives).or_default();
        while *from < end {
            let most = (end - *from) as usize;
            let (x, y) = (a.store.log_bytes(*from, most).context("bytes")?, b.store.log_bytes(*from, most).context("bytes")?);
            let same = x.bytes().iter().zip(y.bytes()).take_while(|(x, y)| x == y).count() as u64;
            ensure!(
                x.bytes() == y.bytes(),
                "DIFFERENT: {one} and {other} from {} on, {:?}, {:?}, below {end}",
                *from + same,
                a.epochs(),
                b.epochs()
            );
            *from += x.bytes().len() as u64;
        }
        Ok(())
    }

    fn fault(&mut self) -> Result<()> {
        let node = self.rng.usize(0..BROKERS);
        match self.rng.u16(0..1000) {
            0..6 => self.crash(node)?,
            6..10 => self.nodes[node].disk.crash_after(self.rng.u64(1..60)),
            10..16 => self.reopen(node)?,
            16..26 => {
                let (from, to) = (self.rng.usize(0..PLACES), self.rng.usize(0..PLACES));
                self.blocked[from][to] = true;
                self.blocked[to][from] |= self.rng.bool();
            }
            26..40 => self.blocked = Default::default(),
            40..44 => {
                let nth = self.rng.usize(0..NAMESRVS.len());
                self.namesrvs[nth] = open_namesrv(&self.base, nth)?;
            }
            44..54 => {
                let both = self.rng.u8(..) < 60;
                for slave in (0..BROKERS).filter(|slave| *slave == node || both) {
                    let request = PromoteSlave { broker_role: Some(master_role(self.sync_master)), force: Some(self.rng.bool()) };
                    self.call(CLIENT, slave, &request, &[])?;
                }
            }
            54..56 => self.nodes[node].skew += self.rng.i64(-5000..5000),
            56..60 => self.delete_temporary(node)?,
            _ => {}
        }
        Ok(())
    }
}
