-- Where do our users and IMDb's disagree most, in stars?
select
    title,
    year,
    rating_count,
    rating_mean,
    round(imdb_rating / 2, 2) as imdb_stars,
    round(rating_mean - imdb_rating / 2, 2) as difference
from {{ ref('dim_movies') }}
where rating_count >= 50 and imdb_votes >= 1000
order by abs(rating_mean - imdb_rating / 2) desc, movie_key asc
limit 10
