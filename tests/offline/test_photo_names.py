"""A label table and photos by files or folders: which row means which photo, and what is refused."""
import pytest

from weclip_sam.offline.photo_names import check_names, names_of_photos, require_listed

CLASSES = ('chair', 'cup', 'table')


@pytest.fixture
def folder(tmp_path):
    """Photos (empty files), and a function that writes a table and asks for their names."""
    root = tmp_path / 'photos'
    files = [root / name for name in ('a.jpg', 'day 1/a.jpg', 'b.png', 'caf\u0065\u0301.jpg')]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()

    def names(*rows, place=root, folders=(str(root),), photos=files):
        place.mkdir(exist_ok=True)
        table = place / 'labels.csv'
        table.write_text('\n'.join(['image,classes', *rows]) + '\n', encoding='utf-8')
        return names_of_photos(table, photos, folders, CLASSES)
    names.files, names.root = files, root
    return names


def test_rows_name_photos_by_their_paths_with_or_without_suffix(folder):
    found = folder('a.jpg,table;cup', 'day 1\\a.jpg,chair', 'b,', 'caf\u00e9.jpg,cup')
    assert found == [('cup', 'table'), ('chair',), (), ('cup',)]


@pytest.mark.parametrize('place', ['.', '..', '../elsewhere'])
def test_wherever_the_table_lies(folder, place):
    prefix = 'photos/' if place == '..' else ''
    rows = [f'{prefix}a.jpg,cup', f'{prefix}day 1/a.jpg,chair', f'{prefix}b.png,table']
    found = folder(*rows, place=folder.root / place)
    assert found == [('cup',), ('chair',), ('table',), None]


def test_images_beside_a_table_and_photos_by_file_name(folder, tmp_path):
    (folder.root / 'images').mkdir()
    own = folder.root / 'images' / 'c.jpg'
    own.touch()
    assert folder('c.jpg,cup', photos=[own], folders=()) == [('cup',)]
    # The one photo of a name that a row gives without its folder.
    assert folder('b.jpg,cup', place=tmp_path / 'elsewhere', folders=(), photos=folder.files[2:3]) == [('cup',)]


def test_a_row_that_may_be_two_photos_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"row 'a.jpg' may be any of 2 photos of that name, .*write the path"):
        folder('a.jpg,cup', 'b.png,cup', place=tmp_path / 'elsewhere', folders=())


@pytest.mark.parametrize('row, message', [
    ('a.jpg,cupp', r"labels.csv, image 'a.jpg': the model knows no class 'cupp'. Did you mean 'cup'"),
    ('a.jpg,zebra', r"no class 'zebra'. It knows 3: chair, cup, table"),
    ('a.jpg,3', 'called by name, not by number'),
    ('a.jpg,background', "'background' is no class of its own"),
    ('z.jpg,cup', r'names none of the 4 photos, .*a.jpg for example')])
def test_names_and_tables_that_fit_nothing(folder, row, message):
    with pytest.raises(ValueError, match=message):
        folder(row)


def test_photos_that_are_not_listed_are_counted(folder):
    found = folder('a.jpg,cup')
    with pytest.raises(ValueError, match=r'does not name 3 of the 4 photos, for example .*a.jpg. Add them .*, or '
                                         'look away'):
        require_listed(found, folder.files, 'labels.csv', 'look away')
    require_listed([()], folder.files[:1], 'labels.csv', '')


def test_names_in_other_forms_and_capitals():
    check_names(['caf\u0065\u0301'], ['caf\u00e9'], 'x')
    with pytest.raises(ValueError, match="Did you mean 'cup'"):
        check_names(['Cup'], CLASSES, 'x')


def test_what_is_behind_a_dot_is_no_suffix_unless_an_image_has_it(tmp_path):
    """Numbers behind a dot tell photos apart; a suffix that an image had elsewhere does not."""
    table = tmp_path / 'labels.csv'

    def names(*photos):
        return names_of_photos(table, [tmp_path / photo for photo in photos], [str(tmp_path)], CLASSES)
    table.write_text('image,classes\nday.001,cup\nday.002,chair\nold.HEIC,table\n')
    assert names('day.001.jpg', 'day.002.jpg', 'old.jpg') == [('cup',), ('chair',), ('table',)]
    assert names('day.001.jpg', 'day.jpg') == [('cup',), None]
    assert names_of_photos(table, [tmp_path / 'in' / 'day.002.png'], [], CLASSES) == [('chair',)]
