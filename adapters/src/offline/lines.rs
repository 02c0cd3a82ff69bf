//! Lines: writes and reads an export line by line; the sum of each line depends on the line before.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::OfflineError;
use super::format::{FORMAT, Header, Line};

/// Bytes of `,"sum":"0123456789abcdef"}`.
const SUFFIX_BYTES: usize = 26;
const SUFFIX_START: &[u8] = b",\"sum\":\"";
/// Longest line, in bytes.
const MAX_LINE_BYTES: u64 = 1 << 30;
const BUFFER_BYTES: usize = 1 << 20;

/// A position between two lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// Offset in bytes.
    pub(super) offset: u64,
    pub(super) lines: u64,
    /// Sum of the line before the position.
    pub(super) sum: u64,
}

#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    file: BufWriter<File>,
    mark: Mark,
    line: Vec<u8>,
}

impl Writer {
    /// Continues at a position; cuts off the rest of the file.
    pub(super) fn new(path: &Path, mut file: File, mark: Mark) -> Result<Self, OfflineError> {
        let io = OfflineError::file(path);
        file.set_len(mark.offset).map_err(&io)?;
        file.seek(SeekFrom::Start(mark.offset)).map_err(&io)?;
        let file = BufWriter::with_capacity(BUFFER_BYTES, file);
        Ok(Self { path: path.into(), file, mark, line: Vec::new() })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.mark.offset
    }

    pub(super) fn put(&mut self, line: &Line) -> Result<(), OfflineError> {
        let io = OfflineError::file(&self.path);
        self.line.clear();
        serde_json::to_writer(&mut self.line, line).map_err(|error| io(error.into()))?;
        // The object's closing brace follows the sum.
        self.line.pop();
        self.mark.sum = xxh3_64_with_seed(&self.line, self.mark.sum);
        writeln!(self.line, ",\"sum\":\"{:016x}\"}}", self.mark.sum).map_err(&io)?;
        let len = self.line.len() as u64;
        if len > MAX_LINE_BYTES {
            return Err(io(io::Error::other(format!("a line of {len} bytes"))));
        }
        self.file.write_all(&self.line).map_err(&io)?;
        self.mark.offset += len;
        self.mark.lines += 1;
        Ok(())
    }

    /// Makes everything durable, under this name.
    pub(super) fn finish(mut self, name: &Path) -> Result<(), OfflineError> {
        let io = OfflineError::file(&self.path);
        self.file.flush().and_then(|()| self.file.get_ref().sync_all()).map_err(&io)?;
        if self.path != name {
            fs::rename(&self.path, name).map_err(&io)?;
        }
        let parent = self.path.parent().filter(|parent| *parent != Path::new(""));
        let parent = parent.unwrap_or_else(|| Path::new("."));
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(&io)
    }
}

#[derive(Debug)]
pub(super) struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    mark: Mark,
    /// Whether lines have sums; true if the header has one.
    summed: bool,
    line: Vec<u8>,
}

impl Reader {
    /// Opens a file and reads the header.
    pub(super) fn open(path: &Path, file: File) -> Result<(Self, Header), OfflineError> {
        let file = BufReader::with_capacity(BUFFER_BYTES, file);
        let mut reader = Self {
            path: path.into(),
            file,
            mark: Mark::default(),
            summed: false,
            line: Vec::new(),
        };
        if !reader.next_bytes()? {
            return Err(reader.damaged("it is empty"));
        }
        reader.summed = split_sum(&reader.line).is_some();
        // A later format may have other members, so the format number is read first.
        let found = serde_json::from_slice::<serde_json::Value>(&reader.line).ok();
        let found = found.as_ref().and_then(|line| line.get("tidegate_export")?.get("format"));
        match found.and_then(serde_json::Value::as_u64) {
            Some(found) if found > u64::from(FORMAT) => {
                Err(OfflineError::Newer { path: path.into(), found, known: FORMAT })
            }
            Some(_) => match reader.parse()? {
                Line::TidegateExport(header) => Ok((reader, header)),
                _ => Err(reader.damaged("no header of an export of Tidegate")),
            },
            None => Err(reader.damaged("no header of an export of Tidegate")),
        }
    }

    /// Returns the position of the next line.
    pub(super) fn mark(&self) -> Mark {
        self.mark
    }

    /// Continues at an earlier position.
    pub(super) fn seek(&mut self, mark: Mark) -> Result<(), OfflineError> {
        self.file.seek(SeekFrom::Start(mark.offset)).map_err(OfflineError::file(&self.path))?;
        self.mark = mark;
        Ok(())
    }

    /// Returns the next line; `None` after the last one.
    pub(super) fn next(&mut self) -> Result<Option<Line>, OfflineError> {
        if self.next_bytes()? { self.parse().map(Some) } else { Ok(None) }
    }

    /// Returns the error that the line read last is wrong.
    pub(super) fn damaged(&self, why: impl Into<String>) -> OfflineError {
        OfflineError::Damaged {
            path: self.path.clone(),
            line: self.mark.lines.max(1),
            why: why.into(),
        }
    }

    /// Whether the line read last is incomplete at the end of the file.
    pub(super) fn is_torn(&self) -> bool {
        self.line.last().is_some_and(|byte| *byte != b'\n')
    }

    fn next_bytes(&mut self) -> Result<bool, OfflineError> {
        self.line.clear();
        let read = (&mut self.file).take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut self.line);
        let read = read.map_err(OfflineError::file(&self.path))? as u64;
        if read == 0 {
            return Ok(false);
        }
        self.mark.lines += 1;
        self.mark.offset += read;
        if read > MAX_LINE_BYTES {
            return Err(self.damaged(format!("longer than {MAX_LINE_BYTES} bytes")));
        }
        Ok(true)
    }

    fn parse(&mut self) -> Result<Line, OfflineError> {
        let Some(line) = self.line.strip_suffix(b"\n") else {
            return Err(self.damaged("cut short"));
        };
        let (body, found) = match split_sum(line) {
            Some((body, found)) if self.summed => (body, Some(found)),
            _ if self.summed => return Err(self.damaged("its sum is missing")),
            _ => (line.strip_suffix(b"}").unwrap_or(line), None),
        };
        let sum = xxh3_64_with_seed(body, self.mark.sum);
        if found.is_some_and(|found| found != format!("{sum:016x}").as_bytes()) {
            let why = "its sum differs: it was changed, or a line before it is gone";
            return Err(self.damaged(why));
        }
        let text = [body, b"}"].concat();
        let parsed = serde_json::from_slice(&text);
        let parsed = parsed.map_err(|error| self.damaged(error.to_string()));
        self.mark.sum = sum;
        parsed
    }
}

/// Splits a line into its bytes before the sum, and the sum; returns `None` when there is no sum.
fn split_sum(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let (body, suffix) = line.split_at_checked(line.len().checked_sub(SUFFIX_BYTES)?)?;
    let sum = suffix.strip_prefix(SUFFIX_START)?.strip_suffix(b"\"}")?;
    Some((body, sum))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::format::Counts;
    use super::*;

    fn header() -> Line {
        let (by, at) = ("0".into(), "now".into());
        Line::TidegateExport(Header { format: FORMAT, by, at, seal: None })
    }

    fn end(actors: u64) -> Line {
        Line::End(Counts { actors, ..Counts::default() })
    }

    fn written(dir: &Path, lines: &[Line]) -> PathBuf {
        let path = dir.join("export");
        let mut writer = Writer::new(&path, File::create(&path).unwrap(), Mark::default()).unwrap();
        for line in lines {
            writer.put(line).unwrap();
        }
        writer.finish(&path).unwrap();
        path
    }

    fn read(path: &Path) -> Result<Vec<Line>, OfflineError> {
        let (mut reader, header) = Reader::open(path, File::open(path).unwrap())?;
        let mut lines = vec![Line::TidegateExport(header)];
        while let Some(line) = reader.next()? {
            lines.push(line);
        }
        Ok(lines)
    }

    #[test]
    fn what_is_written_is_read_and_a_changed_lost_or_moved_line_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let lines = [header(), end(1), end(2), end(3)];
        let path = written(dir.path(), &lines);
        assert_eq!(read(&path).unwrap(), lines);
        let whole = fs::read(&path).unwrap();
        let pieces: Vec<_> = whole.split_inclusive(|byte| *byte == b'\n').collect();
        let changed =
            String::from_utf8(whole.clone()).unwrap().replacen("\"actors\":2", "\"actors\":4", 1);
        let lost = [pieces[0], pieces[1], pieces[3]].concat();
        let moved = [pieces[0], pieces[2], pieces[1], pieces[3]].concat();
        for (damaged, at) in [(changed.as_bytes(), 3), (&lost, 3), (&moved, 2)] {
            fs::write(&path, damaged).unwrap();
            let error = read(&path).unwrap_err();
            assert!(matches!(error, OfflineError::Damaged { line, .. } if line == at), "{error}");
        }
        for len in pieces[0].len() + 1..pieces[0].len() + pieces[1].len() {
            fs::write(&path, &whole[..len]).unwrap();
            let error = read(&path).unwrap_err();
            assert!(matches!(error, OfflineError::Damaged { line: 2, .. }), "{error}");
        }
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let lines = [header(), end(1), end(2)];
        let path = written(dir.path(), &lines);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[at] ^= 1_u8 << bit;
                fs::write(&path, damaged).unwrap();
                assert_ne!(read(&path).ok().as_deref(), Some(&lines[..]), "byte {at} bit {bit}");
                assert!(read(&path).is_err(), "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn a_later_format_is_refused_naming_both_and_sums_may_be_left_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("export");
        fs::write(&path, "{\"tidegate_export\":{\"format\":7,\"new\":1}}\n").unwrap();
        let error = read(&path).unwrap_err();
        assert!(matches!(error, OfflineError::Newer { found: 7, known: FORMAT, .. }), "{error}");
        assert_eq!(error.exit_code(), 65);
        for other in ["", "\n", "{}\n", "not json\n", "{\"end\":{}}\n"] {
            fs::write(&path, other).unwrap();
            assert!(matches!(read(&path), Err(OfflineError::Damaged { line: 1, .. })));
        }
        let by_hand = "{\"tidegate_export\":{\"format\":1,\"by\":\"me\",\"at\":\"\",\"seal\":null}}\n\
                       {\"end\":{\"registered\":0,\"actors\":0,\"revisions\":0}}\n";
        fs::write(&path, by_hand).unwrap();
        assert_eq!(read(&path).unwrap().len(), 2);
    }

    #[test]
    fn writing_goes_on_at_a_place_and_cuts_off_what_lies_behind_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path(), &[header(), end(1), end(2)]);
        let whole = fs::read(&path).unwrap();
        let (mut reader, _) = Reader::open(&path, File::open(&path).unwrap()).unwrap();
        reader.next().unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        let mut writer = Writer::new(&path, file, reader.mark()).unwrap();
        writer.put(&end(2)).unwrap();
        writer.finish(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
}
