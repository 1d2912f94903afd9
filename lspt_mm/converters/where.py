"""Where the files of each data set are to be had; what a message about a missing file says."""

from typing import Dict

WHERE: Dict[str, str] = {
    'cub': 'https://www.vision.caltech.edu/datasets/cub_200_2011/',
    'nabirds': 'https://dl.allaboutbirds.org/nabirds',
    'flowers': 'https://www.robots.ox.ac.uk/~vgg/data/flowers/102/',
    'dogs': 'http://vision.stanford.edu/aditya86/ImageNetDogs/',
    'cars': 'the official page at Stanford is dead; copies circulate on Kaggle and Hugging Face',
    'vtab-1k': 'archives of the community, linked from the repositories of NOAH, FacT and SSF, or '
    "lists written by VTAB's own code",
    'imagefolder': 'your own images, a folder for each class',
}
#: Train and val as VPT published them.
SPLITS = 'the original links of the published FGVC splits are dead; copies circulate'
