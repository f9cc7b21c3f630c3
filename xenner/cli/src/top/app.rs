//! What is on the screen, and what keys do to it.

use std::collections::BTreeSet;
use std::time::Duration;

use pv_stats::text;
use ratatui::Frame;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Style, Stylize};
use ratatui::text::{Line as Text, Span};
use ratatui::widgets::Paragraph;

use super::lines::{Line, Shown, Subject, lines};
use super::meter::Row;
use super::parse_delay;
use super::table::{SortKey, Table, sort};
use crate::cli::TopArgs;
use crate::machine::RunState;

const HELP: &str = "\
q Esc Ctrl-C   leave                     Ctrl-Z         back to the shell for a while
Up Down k j    choose a line             PgUp PgDn      a page (Home End: first, last)
Enter Right    open a domain or device   Left           close it
S >            sort by the next column   <              by the one before
R              turn the order round      Space          look again now
V B N          show vCPUs, disks (block devices), network cards of every domain
D              seconds between looks     ? H            this text

Rates are per second since the look before. The three times of a disk are p50/p99/p99.9 of the
requests answered in between, RDp99 and WRp99 those of all disks of a domain.
STATE: r running, b blocked, p paused, s ended and kept, c crashed and kept.";

/// What a key asks of those around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Nothing.
    None,
    /// To leave.
    Quit,
    /// To stop, as by Ctrl-Z.
    Suspend,
    /// To look at the domains now.
    Look,
    /// To look at the domains that often.
    Delay(Duration),
}

/// The state of the screen.
pub struct App {
    rows: Vec<Row>,
    sort: SortKey,
    reverse: bool,
    shown: Shown,
    open: BTreeSet<Subject>,
    chosen: Option<Subject>,
    /// The first line shown.
    first: usize,
    /// How many lines there is room for.
    page: usize,
    delay: Duration,
    help: bool,
    /// The delay being typed.
    prompt: Option<String>,
    message: Option<String>,
}

impl App {
    /// An empty screen.
    pub fn new(arguments: &TopArgs) -> App {
        App {
            rows: Vec::new(),
            sort: arguments.sort,
            reverse: arguments.reverse,
            shown: Shown::of(arguments),
            open: BTreeSet::new(),
            chosen: None,
            first: 0,
            page: 1,
            delay: arguments.delay,
            help: false,
            prompt: None,
            message: None,
        }
    }

    /// Shows what was just seen.
    pub fn show(&mut self, rows: Vec<Row>) {
        self.rows = rows;
        self.message = None;
        self.order();
    }

    /// Shows that something went wrong.
    pub fn complain(&mut self, message: String) {
        self.message = Some(message);
    }

    fn order(&mut self) {
        sort(&mut self.rows, self.sort, self.reverse);
    }

    fn lines(&self, width: usize) -> (Table, Vec<Line>) {
        let table = Table::fit(&self.rows, Some(width));
        let lines = lines(&self.rows, &table, self.shown, &self.open);
        (table, lines)
    }

    /// Does what a key says.
    pub fn key(&mut self, key: KeyEvent) -> Wish {
        if key.kind == KeyEventKind::Release {
            return Wish::None;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Wish::Quit,
                KeyCode::Char('z') => Wish::Suspend,
                _ => Wish::None,
            };
        }
        if self.prompt.is_some() {
            return self.prompted(key.code);
        }
        if self.help {
            self.help = false;
            return Wish::None;
        }
        let code = match key.code {
            KeyCode::Char(c) => KeyCode::Char(c.to_ascii_lowercase()),
            code => code,
        };
        match code {
            KeyCode::Char('q') | KeyCode::Esc => return Wish::Quit,
            KeyCode::Char(' ') => return Wish::Look,
            KeyCode::Char('s' | '>') => self.sort_by(1),
            KeyCode::Char('<') => self.sort_by(-1),
            KeyCode::Char('r') => {
                self.reverse = !self.reverse;
                self.order();
            }
            KeyCode::Char('v') => self.shown.vcpus = !self.shown.vcpus,
            KeyCode::Char('b') => self.shown.disks = !self.shown.disks,
            KeyCode::Char('n') => self.shown.networks = !self.shown.networks,
            KeyCode::Char('d') => self.prompt = Some(String::new()),
            KeyCode::Char('?' | 'h') => self.help = true,
            KeyCode::Down | KeyCode::Char('j') => self.choose(1),
            KeyCode::Up | KeyCode::Char('k') => self.choose(-1),
            KeyCode::PageDown => self.choose(self.page as isize),
            KeyCode::PageUp => self.choose(-(self.page as isize)),
            KeyCode::Home => self.choose(isize::MIN),
            KeyCode::End => self.choose(isize::MAX),
            KeyCode::Enter => self.toggle(),
            KeyCode::Right => self.open.extend(self.chosen.clone()),
            KeyCode::Left => self.close(),
            _ => {}
        }
        Wish::None
    }

    fn prompted(&mut self, code: KeyCode) -> Wish {
        let Some(typed) = &mut self.prompt else {
            return Wish::None;
        };
        match code {
            KeyCode::Char(c) if typed.len() < 8 && !c.is_control() => typed.push(c),
            KeyCode::Backspace => {
                typed.pop();
            }
            KeyCode::Esc => self.prompt = None,
            KeyCode::Enter => {
                let typed = std::mem::take(typed);
                self.prompt = None;
                match parse_delay(&typed) {
                    Ok(delay) => {
                        self.delay = delay;
                        return Wish::Delay(delay);
                    }
                    Err(message) => self.message = Some(message),
                }
            }
            _ => {}
        }
        Wish::None
    }

    fn sort_by(&mut self, step: isize) {
        self.sort = self.sort.step(step);
        self.order();
    }

    /// Chooses the subject that many further down.
    fn choose(&mut self, by: isize) {
        let (_, lines) = self.lines(0);
        let subjects: Vec<Subject> = lines.into_iter().filter_map(|line| line.subject).collect();
        let Some(last) = subjects.len().checked_sub(1) else {
            return;
        };
        let chosen = self.chosen.as_ref();
        let at = subjects.iter().position(|subject| Some(subject) == chosen);
        let to = match at {
            Some(at) => at.saturating_add_signed(by).min(last),
            None if by == isize::MAX => last,
            None => 0,
        };
        self.chosen = subjects.into_iter().nth(to);
    }

    fn toggle(&mut self) {
        if let Some(chosen) = &self.chosen
            && !self.open.remove(chosen)
        {
            self.open.insert(chosen.clone());
        }
    }

    /// Closes what is chosen, or if it is not open what it belongs to.
    fn close(&mut self) {
        let Some(chosen) = &self.chosen else { return };
        if self.open.remove(chosen) {
            return;
        }
        if let Subject::Device(domain, ..) = chosen {
            let domain = Subject::Domain(domain.clone());
            self.open.remove(&domain);
            self.chosen = Some(domain);
        }
    }

    /// Draws all of it.
    pub fn draw(&mut self, frame: &mut Frame) {
        let one = Constraint::Length(1);
        let [summary, head, body, foot] =
            Layout::vertical([one, one, Constraint::Min(0), one]).areas(frame.area());
        let (table, lines) = self.lines(body.width.into());
        frame.render_widget(Text::from(self.summary()).bold(), summary);
        let titles = table.head(self.sort).into_iter();
        let titles = titles.flat_map(|(title, sorted)| {
            let title = Span::raw(title).reversed();
            let title = if sorted {
                title.bold().underlined()
            } else {
                title
            };
            [title, Span::raw(" ").reversed()]
        });
        let titles = Text::from(titles.collect::<Vec<_>>());
        frame.render_widget(Paragraph::new(titles).style(Style::new().reversed()), head);
        match self.help {
            true => frame.render_widget(Paragraph::new(HELP), body),
            false => self.body(frame, body, &lines),
        }
        frame.render_widget(self.foot(), foot);
    }

    fn body(&mut self, frame: &mut Frame, area: Rect, lines: &[Line]) {
        self.page = usize::from(area.height).max(1);
        if self.rows.is_empty() {
            let text = "No domain runs; xenner run starts one.";
            frame.render_widget(Paragraph::new(text).dim(), area);
            return;
        }
        let is_chosen = |line: &Line| line.subject.is_some() && line.subject == self.chosen;
        let at = lines.iter().position(is_chosen);
        self.first = self.first.min(lines.len().saturating_sub(self.page));
        if let Some(at) = at {
            let lowest = (at + 1).saturating_sub(self.page);
            self.first = self.first.clamp(lowest, at);
        }
        let visible = lines.iter().skip(self.first).take(self.page);
        let text: Vec<Text> = visible
            .map(|line| {
                let text = Text::raw(line.text.as_str());
                let text = if line.alarm { text.red() } else { text };
                match (is_chosen(line), &line.subject) {
                    (true, _) => text.reversed(),
                    (_, Some(Subject::Domain(_))) => text,
                    _ => text.dim(),
                }
            })
            .collect();
        frame.render_widget(Paragraph::new(text), area);
    }

    fn summary(&self) -> String {
        let count = |wanted: RunState| {
            let rows = self.rows.iter();
            rows.filter(|row| row.state == Some(wanted)).count()
        };
        let vcpus: usize = self.rows.iter().map(Row::online).sum();
        let cpu: f64 = self.rows.iter().filter_map(|row| row.cpu_percent).sum();
        let mib: u64 = self.rows.iter().map(|row| row.memory_mib).sum();
        format!(
            "xenner top: {} {}, {} running, {} blocked, {} paused, {} crashed; {vcpus} vCPUs, {cpu:.1}% cpu, {} of memory",
            self.rows.len(),
            if self.rows.len() == 1 {
                "domain"
            } else {
                "domains"
            },
            count(RunState::Running),
            count(RunState::Blocked),
            count(RunState::Paused),
            count(RunState::Crashed),
            text::bytes(mib << 20),
        )
    }

    fn foot(&self) -> Text<'static> {
        if let Some(typed) = &self.prompt {
            return Text::raw(format!("Seconds between looks: {typed}_"));
        }
        if let Some(message) = &self.message {
            return Text::raw(message.clone()).red();
        }
        let seconds = self.delay.as_secs_f64();
        let text = format!(
            "every {seconds} s   q quit  ? help  S sort  Enter open  V B N details  D delay"
        );
        Text::raw(text).dim()
    }
}
